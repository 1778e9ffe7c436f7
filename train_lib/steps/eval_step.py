# SPDX-License-Identifier: Apache-2.0
"""The compiled evaluation step: named scores of one padded batch.

Like the train step a pure function of arrays, compiled once for all tasks and
run per device inside a pmap over `parallel.AXIS`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from promptcl.models import classifier
from promptcl.models.classifier import PromptedClassifier
from promptcl.models.parts import base
from promptcl.models.parts import matching
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.core.parallel import AXIS
from promptcl.train_lib.core.parallel import PyTree
from promptcl.train_lib.steps.losses import Batch
from promptcl.train_lib.steps.losses import cross_entropy
from promptcl.train_lib.steps.losses import masked
from promptcl.train_lib.steps.train_step import TaskInfo

Array = jax.Array
Passes = Callable[..., tuple[classifier.Output, PyTree, dict[str, Array]]]
TOP5 = 'top5'
ANY_DOMAIN = 'any_domain'
UNTIL_OWN = 'until_own_task'
# Scored beside the headline, as it is selected.
BESIDE = (TOP5, ANY_DOMAIN, UNTIL_OWN)


def make_eval_step(config: ConfigDict, model: PromptedClassifier, *,
                   num_domains: int = 1, class_tasks: np.ndarray | None = None
                   ) -> Callable[..., dict[str, PyTree]]:
  """-> `eval_step(state, frozen, batch, query, task, competing, compare)`.

  An eighth argument may be what `make_class_vectors` returns.
  One pass gives every named score of one batch, summed over all devices.  The
  headline selection is what `votes_at_test` says; when it is the batch vote
  and `compare` is set, per-image selection is scored beside it, at the price
  of a second prompted pass where it picks other prompts than the vote.  `top5`
  counts an image as right whose class is among the five best of the headline
  selection, all of `competing` considered.  With `num_domains` equal groups of
  columns, `any_domain` counts one whose class is best in whichever group.  With
  `class_tasks` [C], the task that each class came with, `until_own_task` counts
  one whose class is best among those of the tasks that `known_until` finds.

  Args of the step:
    batch: `image` [B, s, s, 3], `label` [B], `mask` [B], 0 for padding, and
      `index` [B], the image's place in its set (for random prompts).
    query: cached query features of the batch.
    task: of the evaluated classes; its mask gives the task-incremental score.
    competing: [C] bool, classes that compete in the class-incremental score.
    compare: [] bool.

  Returns of the step:
    total [] int32; correct {name: [] int32}; loss {name: [] float32 sum};
    prompt_counts [M] int32 and indices [B, K] (this device's), or None; shown,
    what the prompt sowed for this device's images.
  """
  passes = make_passes(config, model)

  def eval_step(state, frozen, batch, query, task, competing, compare,
                vectors=None):
    out, shown, logits = passes(
        state, state_lib.overlay(frozen, state.params), batch, query, task,
        compare, vectors)
    correct, loss = {}, {}
    for name, value in logits.items():
      for suffix, mask in (('', competing), ('_task_inc', task.class_mask)):
        correct[name + suffix], loss[name + suffix] = score(
            masked(value, mask), batch)
    correct[TOP5] = among_best(masked(out.logits, competing), batch, count=5)
    if num_domains > 1:
      correct[ANY_DOMAIN] = right_in_any_domain(
          masked(out.logits, competing), batch, num_domains=num_domains)
    if class_tasks is not None:
      correct[UNTIL_OWN] = score(masked(
          out.logits, known_until(class_tasks, batch)), batch)[0]
    sums = dict(correct=correct, loss=loss,
                total=jnp.sum(batch['mask'].astype(jnp.int32)),
                prompt_counts=prompt_counts(out.selection, batch['mask']))
    sums = jax.lax.psum(sums, AXIS)
    return dict(sums, indices=out.selection.indices, shown=shown)

  return eval_step


def make_passes(config: ConfigDict, model: PromptedClassifier
                ) -> Passes:
  """-> `passes(state, params, batch, query, task, compare, vectors)`.

  It returns the headline's output, what the prompt sowed on the way, and
  logits [B, C] by selection: `per_sample`, and `batch` if there is a vote.
  """
  votes = votes_at_test(config, model)

  def run(state, params, batch, query, task, vote, vectors):
    out, sown = model.apply(
        state_lib.variables(params), batch['image'], query,
        **prompt_choice(config, batch, task), train=False, vote=vote,
        mask=batch['mask'], memory=state.memory, class_vectors=vectors,
        mutable=['intermediates'])
    return out, sown.get('intermediates', {}).get('prompt', {})

  def per_image_logits(state, params, batch, query, voted, compare, vectors):
    own = model.apply(
        state_lib.variables(params), batch['image'], query, jnp.int32(-1),
        train=False, vote=False, memory=state.memory, method='select'
    )[1].indices
    differs = differ(voted.selection.indices, own, batch['mask'],
                     ordered=model.prompt.order_matters)
    return jax.lax.cond(differs & compare,
                        lambda: run(state, params, batch, query, None, False,
                                    vectors)[0].logits,
                        lambda: voted.logits)

  def passes(state, params, batch, query, task, compare, vectors):
    out, shown = run(state, params, batch, query, task, votes, vectors)
    if not votes:
      return out, shown, {'per_sample': out.logits}
    return out, shown, {'batch': out.logits, 'per_sample': per_image_logits(
        state, params, batch, query, out, compare, vectors)}

  return passes


def make_class_vectors(model: PromptedClassifier) -> Callable[..., Array]:
  """-> `class_vectors(state, frozen)`, once for all images of an evaluation."""
  return lambda state, frozen: model.apply(
      state_lib.variables(state_lib.overlay(frozen, state.params)),
      method='class_vectors')


def known_until(class_tasks: np.ndarray, batch: Batch) -> Array:
  """Classes [C] of tasks up to the last true one of a device's batch.

  So the evaluation of clip-pgp (Qiao et al., ICLR 2024) cuts its logits, which
  tells a part of the task: images of the first task only ever compete with its
  own classes.  Our batches hold images of one task.
  """
  own = jnp.asarray(class_tasks)[batch['label']]
  return class_tasks <= jnp.max(jnp.where(batch['mask'] > 0, own, -1))


def prompt_choice(config: ConfigDict, batch: Batch, task: TaskInfo
                  ) -> dict[str, Any]:
  """Arguments of the prompted pass that say who chooses the prompts.

  At test time the task is not known, hence index -1; only the control `oracle`
  is told it.
  """
  if config.prompt_choice == 'oracle':
    return dict(task_index=task.index, choice='oracle')
  if config.prompt_choice == 'random':
    keys = matching.image_keys(config.seed, task.index, batch['index'])
    return dict(task_index=jnp.int32(-1), choice='random', image_keys=keys)
  return dict(task_index=jnp.int32(-1))


def votes_at_test(config: ConfigDict, model: PromptedClassifier) -> bool:
  """Whether the headline uses the batch's majority vote."""
  if config.prompt_choice != 'key':
    return False
  return {'config': model.prompt.votes, 'per_sample': False,
          'batch': model.prompt.has_pool}[config.eval_selection]


def differ(voted: Array, own: Array, mask: Array, *, ordered: bool) -> Array:
  """Whether any real image would pick other prompts [B, K] than the vote.

  Tokens and prefixes carry no position, so order only counts where `ordered`.
  """
  if not ordered:
    voted, own = jnp.sort(voted, axis=1), jnp.sort(own, axis=1)
  return jnp.any((voted != own) & (mask[:, None] > 0))


def score(logits: Array, batch: Batch) -> tuple[Array, Array]:
  """Number of right images (int32) and summed loss of a padded batch."""
  real = batch['mask'] > 0
  right = (jnp.argmax(logits, axis=-1) == batch['label']) & real
  loss = jnp.where(real, cross_entropy(logits, batch['label']), 0.0)
  return jnp.sum(right.astype(jnp.int32)), jnp.sum(loss)


def among_best(logits: Array, batch: Batch, *, count: int) -> Array:
  """Number of images whose class is among the `count` best (int32)."""
  own = jnp.take_along_axis(logits, batch['label'][:, None], axis=-1)
  better = jnp.sum(logits > own, axis=-1)
  right = (better < count) & jnp.isfinite(own[:, 0]) & (batch['mask'] > 0)
  return jnp.sum(right.astype(jnp.int32))


def right_in_any_domain(logits: Array, batch: Batch, *, num_domains: int
                        ) -> Array:
  """Number of images whose class is right, be it another domain's (int32)."""
  logits = logits.reshape(logits.shape[0], num_domains, -1)
  label = batch['label'] % logits.shape[-1]
  return score(jnp.max(logits, axis=1), {**batch, 'label': label})[0]


def prompt_counts(selection: base.Selection, mask: Array) -> Array | None:
  """How often each of the M prompts is used by real images: [M] int32."""
  if selection.indices is None:
    return None
  used = jax.nn.one_hot(
      selection.indices, selection.similarity.shape[1], dtype=jnp.int32)
  real = (mask > 0).astype(jnp.int32)
  return jnp.sum(used * real[:, None, None], axis=(0, 1))
