# SPDX-License-Identifier: Apache-2.0
"""Controls on the same data and backbone, because a number means little alone.

What there is and what each one changes stands in `controls.py`.  Three need
more than another config:

  class_mean                      nearest class mean of the frozen class token;
                                  nothing is trained
  random_prompt, oracle_prompt    the run's last state, scored once more with
                                  another choice of prompts
  joint, joint_prompts            all tasks trained at once, scored on each
                                  evaluation set: the upper bound
"""

from collections.abc import Iterable
import dataclasses
import pathlib
from typing import TYPE_CHECKING

import jax
from jax.experimental import multihost_utils
import numpy as np

from promptcl.input_pipeline.streams import task_stream
from promptcl.train_lib import evaluate
from promptcl.train_lib import program as program_lib
from promptcl.train_lib import train
from promptcl.train_lib.core import parallel
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.records import tables
from promptcl.train_lib.records.results import Results
from promptcl.train_lib.records.results import Scores
from promptcl.train_lib.resume import workdir as workdir_lib
from promptcl.train_lib.startup import controls
from promptcl.train_lib.startup import startup

if TYPE_CHECKING:
  from promptcl.input_pipeline.pipeline import TaskStream

COLUMNS = ('avg_acc', 'micro_last_acc', 'forgetting')


def run(program: program_lib.Program, stream: 'TaskStream', workdir: str,
        results: Results) -> str:
  """Runs the config's controls and returns the table of all scores.

  Args:
    program, stream, results: of the run that is compared with.
    workdir: of that run; each control has a folder below `comparisons` in it
      and goes on there where it was stopped.
  """
  config = program.config
  rows = {config.method: results.summary()}
  for name in config.comparisons:
    other = control(name, program, stream, workdir)
    rows[f'{name}: {controls.TITLES[name]}'] = other.summary()
  return tables.comparison_table(rows, COLUMNS)


def control(name: str, program: program_lib.Program, stream: 'TaskStream',
            workdir: str) -> Results:
  """Results of one control; those scored at the end have the last row only."""
  if name == 'class_mean':
    return class_mean(program, stream)
  folder = pathlib.Path(workdir) / 'comparisons' / name
  folder.mkdir(parents=True, exist_ok=True)
  config = startup.expand(
      controls.override(program.config, name, stream.num_classes))
  other = program_lib.create(config, stream.num_classes, stream.class_names,
                             num_tasks=len(stream.tasks))
  if name in controls.RESCORED:
    return rescore(other, stream, workdir, str(folder))
  if name in controls.JOINT:
    train.train_and_evaluate(other, joint(stream), str(folder))
    return rescore(other, stream, str(folder), str(folder))
  return train.train_and_evaluate(other, stream, str(folder))


def joint(stream: 'TaskStream') -> 'TaskStream':
  """The stream as one task with one evaluation set of all test images."""
  merged = stream.joint()
  images = np.unique(np.concatenate([e.indices for e in stream.eval_sets]))
  everything = dataclasses.replace(
      stream.eval_sets[0], index=0, name='all', indices=images,
      class_mask=np.ones(stream.num_classes, bool), num_examples=images.size)
  merged.tasks = tuple(
      dataclasses.replace(task, eval_sets=(0,)) for task in merged.tasks)
  merged.eval_sets = (everything,)
  return merged


def rescore(program: program_lib.Program, stream: 'TaskStream', trained: str,
            folder: str) -> Results:
  """Scores the last state of a run on all sets of a stream.

  Args:
    program: whose state has the structure of the run's.
    stream: of the tasks that are reported.
    trained: workdir of the run.
    folder: results.json goes there.

  Returns:
    Results with nothing but the row of the last task.

  Raises:
    ValueError: there is no checkpoint in `trained`.
  """
  frozen, state = program.start()
  with workdir_lib.open_checkpoints(trained) as checkpoints:
    restored = checkpoints.restore_latest(state)
  if restored is None:
    raise ValueError(f'{trained} has no checkpoint to score; train it first')
  evaluator = evaluate.Evaluator(program, stream)
  last = stream.tasks[-1]
  scores = evaluator(parallel.replicate(restored[1]),
                     parallel.replicate(frozen), last, compare=True)
  results = Results(len(stream.tasks), [e.name for e in stream.eval_sets],
                    evaluator.headline)
  results.record(last.index, scores)
  workdir_lib.save_results(
      results, folder, program.config.to_json_best_effort(),
      workdir_lib.provenance(program.config, stream))
  return results


def class_mean(program: program_lib.Program, stream: 'TaskStream') -> Results:
  """Nearest class mean on L2-normalised class-token features.

  Means come from the training images of each task as it arrives, prepared as
  for a test and each counted once; the classes seen so far compete.
  """
  features = _Features(program)
  results = Results(len(stream.tasks), [e.name for e in stream.eval_sets],
                    'per_sample')
  tests, seen_rows = {}, np.zeros(0, np.int64)
  sums = np.zeros((stream.num_classes, features.width))
  counts = np.zeros((stream.num_classes, 1))
  for task in stream.tasks:
    if (new := _without(task, seen_rows)).num_examples:
      x, y = features(stream.clean_batches(new))
      np.add.at(sums, y, x)
      np.add.at(counts, y, 1)
      seen_rows = np.union1d(seen_rows, new.train_indices)
    means = _unit(sums / np.maximum(counts, 1))
    for index in set(task.eval_sets) - tests.keys():
      tests[index] = features(stream.eval_batches(stream.eval_sets[index]))
    results.record(task.index, {
        i: _score(*tests[i], means, counts[:, 0] > 0) for i in task.eval_sets})
  return results


def _without(task: task_stream.Task, seen_rows: np.ndarray) -> task_stream.Task:
  """The task with those images only whose rows were not seen before."""
  rows = np.setdiff1d(task.train_indices, seen_rows)
  return dataclasses.replace(task, train_indices=rows, num_examples=rows.size)


def _unit(x: np.ndarray) -> np.ndarray:
  return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def _score(x: np.ndarray, y: np.ndarray, means: np.ndarray, seen: np.ndarray
           ) -> Scores:
  logits = np.where(seen, x @ means.T, -np.inf)
  right = int(np.sum(np.argmax(logits, axis=1) == y))
  return Scores(total=len(y), correct={'per_sample': right}, loss=np.nan)


class _Features:
  """Class-token features of the frozen backbone for host batches."""

  def __init__(self, program: program_lib.Program):
    frozen, state = program.start()  # nothing has trained yet
    backbone = {k: v for k, v in state_lib.overlay(frozen, state.params).items()
                if k.startswith('backbone/')}
    self.width = program.model.backbone.width
    self._frozen = parallel.replicate(backbone)
    self._query = parallel.pmap(lambda params, images: program.model.apply(
        state_lib.variables(params), images, method='class_token'))

  def __call__(self, batches: Iterable[task_stream.Batch]
               ) -> tuple[np.ndarray, np.ndarray]:
    """-> features [N, D] of unit length, labels [N], padding left out."""
    parts = []
    for batch in batches:
      image = parallel.shard(batch['image'])
      x = jax.device_get(self._query(self._frozen, image))
      parts.append((x.reshape(-1, self.width), batch['label'], batch['mask']))
    on_host = tuple(map(np.concatenate, zip(*parts, strict=True)))
    x, y, mask = multihost_utils.process_allgather(on_host, tiled=True)
    return _unit(x[mask > 0]), y[mask > 0]
