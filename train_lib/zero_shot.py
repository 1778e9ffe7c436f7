# SPDX-License-Identifier: Apache-2.0
"""What learning does to CLIP's knowledge of what was not learned.

After each task, every test image goes through the plain pass and through the
prompted one, as at test time, and its embedding is compared with sentences of a
set H of names that it was not trained on: the classes still to come, and all
classes of each of `config.zero_shot.datasets`.  Shares of right images:

  ZS_before  the plain pass before the first task
  ZS_strict  the plain pass after the task; the same, as nothing in it trains
  ZS_routed  the prompted pass, which chooses a prompt as for any image
  dZS        ZS_routed - ZS_before
  Open-H     all classes compete, those to come by the plain pass: harmonic mean
             of the shares among images of learned and of other classes

`NAME@t` is after task t, `NAME:SET@t` on a data set.  Averages over the tasks
but the last: Transfer (of ZS_routed), Transfer_before and Open-H.  ZS_before,
ZS_strict, ZS_routed and dZS without a task are means over the data sets after
the last task or, without any, these averages.
"""

from collections.abc import Callable, Iterator
import itertools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from promptcl import input_pipeline
from promptcl.input_pipeline.streams.task_stream import Task
from promptcl.models.classifier import PromptedClassifier
from promptcl.models.networks import clip
from promptcl.models.networks import similarity
from promptcl.models.networks import text as text_lib
from promptcl.models.parts import base
from promptcl.train_lib.core import parallel
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.program import Program
from promptcl.train_lib.records import zero_shot_scores as scores
from promptcl.train_lib.steps import train_step as steps
from promptcl.train_lib.steps.train_step import Batch

if TYPE_CHECKING:
  from promptcl.input_pipeline.pipeline import TaskStream

Array = jax.Array


def check(program: Program, stream: 'TaskStream') -> None:
  """Whether `config.zero_shot` can be measured; data sets must be there.

  Raises:
    ValueError, FileNotFoundError: one line.
  """
  config = program.config
  if not config.zero_shot.measure:
    if config.zero_shot.datasets:
      raise ValueError('config.zero_shot.datasets needs zero_shot.measure')
    return
  if not isinstance(program.model.backbone, clip.Clip) or (
      'embedding' not in program.model.prompt.query_needs):
    raise ValueError('config.zero_shot.measure needs a text tower and a method '
                     f'that asks for embeddings; {config.method} on '
                     f'{config.model_name} is no such thing')
  held_out(config, stream)


def held_out(config: ConfigDict, stream: 'TaskStream'
             ) -> dict[str, 'TaskStream']:
  """Streams of `config.zero_shot.datasets`, by name."""
  return {name: input_pipeline.build_held_out(
      config, name, global_batch_size=stream.global_batch_size,
      process_index=stream.process_index, process_count=stream.process_count)
          for name in config.zero_shot.datasets}


def similarities(frozen: state_lib.FlatParams, embeddings: Array, text: Array
                 ) -> Array:
  """CLIP's logits of embeddings [B, E] and sentences [N, E]: [B, N]."""
  scale = jnp.exp(frozen[f'backbone/{clip.SCALE}'])
  return scale * similarity.cosine(embeddings, text)


def make_step(model: PromptedClassifier) -> Callable[..., dict[str, Array]]:
  """-> `step(state, frozen, batch, query, plain, text, names, seen)`: counts.

  Args of the step:
    batch: as `Examples.clean` makes it.
    query: of the batch, from the plain pass.
    plain: two of [B, N], logits of the plain pass before learning and now.
    text: [N, E], sentence embeddings of all classes of the set.
    names: [N] bool, the label set H.
    seen: [N] bool, classes that have been learned; all False for other sets,
      of which the head has no column.

  Returns of the step, over all devices:
    `before`, `strict`, `routed` and `total` of images in H; `open_seen`,
    `open_unseen`, `seen`; int32.  `difference`, largest of a logit of the
    plain pass from what it was.
  """
  def step(state, frozen, batch, query, plain, text, names, seen):
    out = model.apply(
        state_lib.variables(state_lib.overlay(frozen, state.params)),
        batch['image'], query, jnp.int32(-1), train=False, vote=False,
        memory=state.memory)
    logits = dict(zip(scores.KINDS, (
        *plain, similarities(frozen, out.pre_logits, text)), strict=True))
    real, label = batch['mask'] > 0, batch['label']
    right = lambda x: (jnp.argmax(x, axis=-1) == label) & real
    inside = names[label] & real
    correct = {kind: right(jnp.where(names, x, -jnp.inf)) & inside
               for kind, x in logits.items()}
    if out.logits.shape[1] == text.shape[0]:
      everything = right(jnp.where(seen, out.logits, logits['strict']))
      correct |= {'open_seen': everything & seen[label],
                  'open_unseen': everything & ~seen[label]}
    images = {'total': inside, 'seen': seen[label] & real}
    counts = jax.lax.psum({name: jnp.sum(x.astype(jnp.int32))
                           for name, x in (correct | images).items()},
                          parallel.AXIS)
    moved = jnp.abs(logits['strict'] - logits['before']) * real[:, None]
    return {**counts, 'difference': jax.lax.pmax(
        jnp.max(moved), parallel.AXIS)}

  return step


class ZeroShot:
  """Measures a run; to be made before its first step.

  Attributes:
    between_batches: called so; may raise to abandon a measurement.
  """

  def __init__(self, program: Program, stream: 'TaskStream',
               frozen: state_lib.FlatParams):
    """`frozen` is replicated."""
    self.between_batches: Callable[[], None] = lambda: None
    self._stream, self._frozen = stream, frozen
    query = parallel.pmap(steps.make_query(program.model))
    params = state_lib.initial_params(
        program.draw, program.backbone_params, seed=program.config.seed)
    self._sets = {}
    for name, other in {'': stream,
                        **held_out(program.config, stream)}.items():
      config = program.config if not name else input_pipeline.held_out_config(
          program.config, name)
      ids = text_lib.class_ids(
          config, program.model.backbone.text_shape, other.class_names)
      text = text_lib.class_embeddings(program.model.backbone, params, ids)
      plain = _plain_pass(query, frozen, text)
      step = parallel.pmap(make_step(program.model),
                           in_axes=(0, 0, 0, 0, 0, None, None, None))
      before = [parallel.local(plain(batch)[1]) for batch in _batches(other)]
      self._sets[name] = other, step, text, plain, before

  def __call__(self, state: state_lib.TrainState, task: Task
               ) -> dict[str, float]:
    """Shares after a task by name, as far as there are names to tell.

    Args:
      state: replicated.
      task: of the stream.
    """
    masks = [t.class_mask for t in self._stream.tasks[:task.index + 1]]
    values: dict[str, float] = {}
    for name in self._sets:
      seen = np.any(masks, axis=0) if not name else np.zeros(
          self._sets[name][0].num_classes, bool)
      counts = self._counts(state, name, seen)
      short = name.rpartition('/')[2]  # without the folders of a path
      values |= scores.shares(counts, f':{short}' if name else '')
      values[scores.DIFFERENCE] = max(values.get(scores.DIFFERENCE, 0.0),
                                      counts['difference'])
    return values

  def _counts(self, state: state_lib.TrainState, name: str, seen: np.ndarray
              ) -> dict[str, float]:
    """What the step returns, over all images of a set."""
    stream, step, text, plain, logits = self._sets[name]
    parts = []
    for batch, before in zip(_batches(stream), logits, strict=True):
      query, now = plain(batch)
      parts.append(parallel.unreplicate(step(
          state, self._frozen, batch, query, (before, now), text, ~seen, seen)))
      self.between_batches()
    return {key: float((max if key == 'difference' else sum)(
        counts[key] for counts in parts)) for key in parts[0]}


def _plain_pass(query: Callable[..., base.Query], frozen: state_lib.FlatParams,
                text: np.ndarray
                ) -> Callable[[Batch], tuple[base.Query, Array]]:
  """-> `plain(batch)`: its query, and its logits [n, B, N].

  One program before learning and after, so that not even rounding differs.
  """
  compare = parallel.pmap(similarities, in_axes=(0, 0, None))

  def plain(batch):
    result = query(frozen, batch['image'])
    return result, compare(frozen, result.embedding, text)

  return plain


def _batches(stream: 'TaskStream') -> Iterator[Batch]:
  """Device batches of all test images."""
  return parallel.prefetch(itertools.chain.from_iterable(
      map(stream.eval_batches, stream.eval_sets)))
