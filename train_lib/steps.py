# Copyright 2026 The JAX Continual Prompting Authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""The compiled steps: pure functions of arrays.

Whatever changes with the task is an argument (`TaskInfo`), so each step is
compiled once for all tasks.  Everything here runs per device inside a pmap
over `parallel.AXIS`.
"""

from collections.abc import Callable
import functools
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax

from models.prompts import base
from train_lib import optimizer as optimizer_lib
from train_lib import state as state_lib
from train_lib.parallel import AXIS

Array = jax.Array
Batch = dict[str, Array]


@flax.struct.dataclass
class TaskInfo:
  """What a step must know of the current task; same shapes for every task.

  Attributes:
    index: [] int32.
    class_mask: [C] bool, the task's classes.
    first_step: [] int32, `state.step` at the task's start.
    steps_per_epoch: [] int32.
  """

  index: Array
  class_mask: Array
  first_step: Array
  steps_per_epoch: Array

  @classmethod
  def create(cls, index: int, class_mask: np.ndarray, *, first_step: int,
             steps_per_epoch: int) -> 'TaskInfo':
    return cls(np.int32(index), np.asarray(class_mask, bool),
               np.int32(first_step), np.int32(steps_per_epoch))


def masked(logits: Array, class_mask: Array) -> Array:
  """Logits [B, C] with all classes outside the mask at minus infinity."""
  return jnp.where(class_mask, logits, -jnp.inf)


def cross_entropy(logits: Array, labels: Array) -> Array:
  """[B, C], [B] -> [B]."""
  return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def l2_penalty(params: state_lib.FlatParams) -> Array:
  """Half the squared norm of all leaves with more than one axis."""
  return 0.5 * sum(jnp.sum(jnp.square(v)) for v in params.values()
                   if v.ndim > 1)


def make_query(model: Any) -> Callable[..., base.Query]:
  """-> `query(frozen, images [B, s, s, 3]) -> Query`, on the pristine tree."""
  if not model.prompt.query_needs:
    return lambda frozen, images: base.Query()
  return lambda frozen, images: model.apply(
      state_lib.variables(frozen), images, method='query')


def make_gradients(config: Any, model: Any, method: base.Method
                   ) -> Callable[..., Any]:
  """-> `gradients(state, frozen, batch, task) -> (loss, logits, grads)`.

  The loss is cross-entropy plus the method's weighted losses plus the L2
  penalty; `logits` are those it saw (masked).  `grads` are averaged over all
  devices and cover the trainable leaves or, with `grad_clip_scope = 'all'`,
  every leaf of the prompted pass.
  """
  query_fn = make_query(model)
  penalty = optimizer_lib.penalty_weight(config)
  every_leaf = config.grad_clip_scope == 'all'

  def loss_fn(params, rest, query, batch, task, rng):
    params = state_lib.overlay(rest, params)
    out = model.apply(state_lib.variables(params), batch['image'], query,
                      task.index, train=True, rngs={'dropout': rng})
    logits = out.logits
    if config.continual.train_mask:
      logits = masked(logits, task.class_mask)
    loss = jnp.mean(cross_entropy(logits, batch['label']))
    for name, value in out.selection.losses.items():
      loss += method.loss_weights[name] * value
    if penalty:
      loss += penalty * l2_penalty(params)
    return loss, logits

  def gradients(state, frozen, batch, task):
    query = query_fn(frozen, batch['image'])
    rng = jax.random.fold_in(jax.random.key(config.seed), state.step)
    rng = jax.random.fold_in(rng, jax.lax.axis_index(AXIS))
    params, rest = state.params, frozen
    if every_leaf:
      params, rest = state_lib.overlay(frozen, state.params), {}
    (loss, logits), grads = jax.value_and_grad(loss_fn, has_aux=True)(
        params, rest, query, batch, task, rng)
    return loss, logits, jax.lax.pmean(grads, AXIS)

  return gradients


def make_train_step(config: Any, model: Any, method: base.Method,
                    optimizer: optax.GradientTransformationExtraArgs, *,
                    global_batch_size: int, metrics: Any = None
                    ) -> Callable[..., Any]:
  """-> `train_step(state, frozen, batch, task) -> (state, TrainMetrics)`.

  `metrics` replaces the CLU collection, so that a machine without CLU can run
  the step (benchmarks/measure.py).

  Shapes per device: batch `image` [B, s, s, 3] float32, `label` [B] int32.
  Metrics are gathered over all devices.
  """
  if metrics is None:
    from train_lib import metrics as metrics_lib  # needs CLU
    metrics = metrics_lib.TrainMetrics
  gradients = make_gradients(config, model, method)
  rate_fn = functools.partial(
      optimizer_lib.learning_rate,
      **optimizer_lib.schedule_options(config, global_batch_size))

  def train_step(state, frozen, batch, task):
    if config.weight_norm:
      state = state.replace(params=unit_head(state.params))
    loss, logits, grads = gradients(state, frozen, batch, task)
    norm = optax.tree.norm(grads)
    rate = rate_fn(state.step + 1 - task.first_step, task.steps_per_epoch)
    updates, opt_state = optimizer.update(
        {path: grads[path] for path in state.params}, state.opt_state,
        state.params, grad_norm=norm, learning_rate=rate, memory=state.memory)
    state = state.replace(
        step=state.step + 1, opt_state=opt_state,
        params=optax.apply_updates(state.params, updates))
    return state, metrics.gather_from_model_output(
        axis_name=AXIS, loss=loss, logits=logits, labels=batch['label'],
        learning_rate=rate, l2_grads=norm)

  return train_step


def unit_head(params: dict[str, Array]) -> dict[str, Array]:
  """Divides each class's head weights by their norm (`weight_norm`)."""
  if 'head/kernel' not in params:
    return params
  kernel = params['head/kernel']
  norm = jnp.linalg.norm(kernel, axis=0, keepdims=True)
  return {**params, 'head/kernel': kernel / (norm + 1e-10)}


def make_eval_step(config: Any, model: Any) -> Callable[..., dict[str, Any]]:
  """-> `eval_step(state, frozen, batch, query, task, competing, compare)`.

  One pass gives every named score of one batch, summed over all devices.  The
  headline selection is what `votes_at_test` says; when it is the batch vote
  and `compare` is set, per-image selection is scored beside it, at the price
  of a second prompted pass where it picks other prompts than the vote.

  Args of the step:
    batch: `image` [B, s, s, 3], `label` [B] and `mask` [B], 0 for padding.
    query: cached query features of the batch.
    task: of the evaluated classes; its mask gives the task-incremental score.
    competing: [C] bool, classes that compete in the class-incremental score.
    compare: [] bool.

  Returns of the step:
    total [] int32; correct {name: [] int32}; loss {name: [] float32 sum};
    prompt_counts [M] int32 and indices [B, K] (this device's), or None.
  """
  votes = votes_at_test(config, model)

  def run(params, batch, query, vote):
    return model.apply(
        state_lib.variables(params), batch['image'], query, jnp.int32(-1),
        train=False, vote=vote, mask=batch['mask'])

  def per_image_logits(params, batch, query, voted, compare):
    own = model.apply(
        state_lib.variables(params), batch['image'], query, jnp.int32(-1),
        train=False, vote=False, method='select')[1].indices
    differs = differ(voted.selection.indices, own, batch['mask'],
                     ordered=model.prompt.order_matters)
    return jax.lax.cond(differs & compare,
                        lambda: run(params, batch, query, False).logits,
                        lambda: voted.logits)

  def eval_step(state, frozen, batch, query, task, competing, compare):
    params = state_lib.overlay(frozen, state.params)
    out = run(params, batch, query, votes)
    logits = {'batch' if votes else 'per_sample': out.logits}
    if votes:
      logits['per_sample'] = per_image_logits(
          params, batch, query, out, compare)
    correct, loss = {}, {}
    for name, value in logits.items():
      for suffix, mask in (('', competing), ('_task_inc', task.class_mask)):
        correct[name + suffix], loss[name + suffix] = score(
            masked(value, mask), batch)
    sums = dict(correct=correct, loss=loss,
                total=jnp.sum(batch['mask'].astype(jnp.int32)),
                prompt_counts=prompt_counts(out.selection, batch['mask']))
    sums = jax.lax.psum(sums, AXIS)
    return dict(sums, indices=out.selection.indices)

  return eval_step


def votes_at_test(config: Any, model: Any) -> bool:
  """Whether the headline uses the batch's majority vote."""
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


def prompt_counts(selection: base.Selection, mask: Array) -> Array | None:
  """How often each of the M prompts is used by real images: [M] int32."""
  if selection.indices is None:
    return None
  used = jax.nn.one_hot(
      selection.indices, selection.similarity.shape[1], dtype=jnp.int32)
  real = (mask > 0).astype(jnp.int32)
  return jnp.sum(used * real[:, None, None], axis=(0, 1))
