# SPDX-License-Identifier: Apache-2.0
"""Scores evaluation sets, each test image exactly once.

Query features come from the frozen pretrained ViT, so they are computed the
first time a set is scored and reused for the rest of the run, as far as
`eval_cache_mib` has room for them.
"""

from collections.abc import Callable, Iterable
import itertools
from typing import TYPE_CHECKING

import jax
from ml_collections import ConfigDict
import numpy as np

from promptcl.input_pipeline.streams.task_stream import EvalSet
from promptcl.input_pipeline.streams.task_stream import Task
from promptcl.models.classifier import PromptedClassifier
from promptcl.models.parts import base
from promptcl.train_lib.core import parallel
from promptcl.train_lib.core.state import FlatParams
from promptcl.train_lib.core.state import TrainState
from promptcl.train_lib.program import Program
from promptcl.train_lib.records.results import Scores
from promptcl.train_lib.steps import eval_step
from promptcl.train_lib.steps import train_step as steps
from promptcl.train_lib.steps.train_step import Batch

if TYPE_CHECKING:
  from promptcl.input_pipeline.pipeline import TaskStream

_NUM_SHOWN = 32


class Evaluator:
  """Evaluates a program on the sets of a stream.

  Attributes:
    headline: name of the selection that the config asks for.
    shown: for each set that was scored, its first images and what the prompt
      sowed for them.
    between_batches: called so; may raise to abandon an evaluation.
  """

  def __init__(self, program: Program, stream: 'TaskStream',
               devices: parallel.Devices = None):
    config, model = program.config, program.model
    self.headline = headline(config, model)
    self.between_batches: Callable[[], None] = lambda: None
    self._config, self._stream, self._devices = config, stream, devices
    self._query = lambda frozen, images: base.Query()
    if model.prompt.query_needs:
      self._query = parallel.pmap(steps.make_query(model), devices=devices)
    self._step = parallel.pmap(
        eval_step.make_eval_step(config, model,
                                 num_domains=num_domains(config, stream),
                                 class_tasks=class_tasks(config, stream)),
        in_axes=(0, 0, 0, 0, None, None, None, 0), devices=devices)
    self._vectors: Callable[..., jax.Array | None] = (
        lambda state, frozen: None)
    if model.reads_sentences:
      self._vectors = parallel.pmap(
          eval_step.make_class_vectors(model), devices=devices)
    self._queries: dict[tuple[int, int], base.Query] = {}
    self.shown: dict[int, dict[str, parallel.PyTree]] = {}
    self._room = config.eval_cache_mib * 2**20

  def __call__(self, state: TrainState, frozen: FlatParams, task: Task, *,
               compare: bool) -> dict[int, Scores]:
    """Scores the evaluation sets of `task`.

    Args:
      state, frozen: replicated.
      task: the stream's task that was trained last.
      compare: score per-image selection beside the batch vote.
    """
    competing = self._competing(task)
    vectors = self._vectors(state, frozen)
    return {index: self._score(state, frozen, self._stream.eval_sets[index],
                               competing, compare, vectors)
            for index in task.eval_sets}

  def _competing(self, task: Task) -> np.ndarray:
    """Classes [C] that compete in the class-incremental score."""
    if self._config.eval_classes == 'all':
      return np.ones(self._stream.num_classes, bool)
    seen = [t.class_mask for t in self._stream.tasks[:task.index + 1]]
    return np.any(seen, axis=0)

  def _batches(self, eval_set: EvalSet) -> Iterable[Batch]:
    """Device batches [n, B, ...] of a set, at most `num_eval_steps`."""
    limit = self._config.num_eval_steps
    return itertools.islice(
        parallel.prefetch(self._stream.eval_batches(eval_set), self._devices),
        limit if limit > 0 else None)

  def _score(self, state: TrainState, frozen: FlatParams, eval_set: EvalSet,
             competing: np.ndarray, compare: bool, vectors: jax.Array | None
             ) -> Scores:
    info = steps.TaskInfo.create(
        eval_set.index, eval_set.class_mask, first_step=0, steps_per_epoch=1)
    sums = []
    for number, batch in enumerate(self._batches(eval_set)):
      query = self._features(frozen, batch, (eval_set.index, number))
      sums.append(self._step(state, frozen, batch, query, info, competing,
                             np.bool_(compare), vectors))
      jax.block_until_ready(sums[-1])
      if not number:
        self._show(eval_set.index, batch, sums[0]['shown'])
      self.between_batches()
    return self._scores(eval_set, parallel.unreplicate(sums), compare)

  def _show(self, index: int, batch: Batch, sown: parallel.PyTree) -> None:
    """Keeps what was sown for the first images of a set, if anything."""
    if not sown:
      return
    real = parallel.unreplicate(batch['mask']) > 0
    self.shown[index] = jax.tree.map(lambda x: x[real][:_NUM_SHOWN], {
        'image': parallel.unreplicate(batch['image']),
        **parallel.unreplicate(sown)})

  def _features(self, frozen: FlatParams, batch: Batch,
                position: tuple[int, int]) -> base.Query:
    """Query features of the batch at a position, kept while there is room."""
    if position in self._queries:
      return self._queries[position]
    query = jax.device_get(self._query(frozen, batch['image']))
    size = sum(x.nbytes for x in jax.tree.leaves(query))
    if size <= self._room:
      self._queries[position] = query
      self._room -= size
    return query

  def _scores(self, eval_set: EvalSet, sums: list[dict[str, parallel.PyTree]],
              compare: bool) -> Scores:
    total = sum(int(s['total']) for s in sums)
    self._check_total(eval_set, total)
    names = [name for name in sums[0]['correct'] if compare
             or name.startswith((self.headline.split('_task')[0],
                                 *eval_step.BESIDE))]
    counts = None
    if sums[0]['prompt_counts'] is not None:
      counts = np.sum([s['prompt_counts'] for s in sums], axis=0)
    return Scores(
        total=total,
        correct={n: sum(int(s['correct'][n]) for s in sums) for n in names},
        loss=float(sum(s['loss'][self.headline] for s in sums) / total),
        prompt_counts=counts)

  def _check_total(self, eval_set: EvalSet, total: int) -> None:
    """Every image once, unless the config says otherwise."""
    config = self._config
    if config.eval_drop_remainder or config.num_eval_steps > 0:
      return
    if total != eval_set.num_examples:
      raise AssertionError(f'{eval_set.name}: scored {total} images of '
                           f'{eval_set.num_examples}')


def due_after_task(config: ConfigDict, stream: 'TaskStream', task: Task
                   ) -> bool:
  """Whether a task is followed by an evaluation."""
  last = task.index == len(stream.tasks) - 1
  return bool(task.eval_sets) and (last or not config.eval_last_only)


def due_after_step(config: ConfigDict, step: int, steps_per_epoch: int) -> bool:
  """Whether to evaluate after `step` (from 1) of a task, its end aside."""
  if config.eval_last_only:
    return False
  if config.eval_per_epochs > 0:
    return step % (config.eval_per_epochs * steps_per_epoch) == 0
  return config.eval_every_steps > 0 and step % config.eval_every_steps == 0


def num_domains(config: ConfigDict, stream: 'TaskStream') -> int:
  """Domains whose classes have head columns of their own; else 1."""
  if config.continual.domain_outputs != 'separate':
    return 1
  return stream.num_classes // int(np.sum(stream.eval_sets[0].class_mask))


def class_tasks(config: ConfigDict, stream: 'TaskStream') -> np.ndarray | None:
  """The task that each class came with, [C], if that is asked for."""
  if not config.eval_until_own_task:
    return None
  return np.argmax([task.class_mask for task in stream.tasks], axis=0)


def headline(config: ConfigDict, model: PromptedClassifier) -> str:
  """The selection that `avg_acc` and `accuracy_n` speak of."""
  name = 'batch' if eval_step.votes_at_test(config, model) else 'per_sample'
  return name + ('_task_inc' if config.continual.eval_task_inc else '')
