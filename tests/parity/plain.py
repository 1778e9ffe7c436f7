# SPDX-License-Identifier: Apache-2.0
"""Kinds that need neither a network nor pictures."""

import functools
from typing import Any

import jax
import numpy as np

from promptcl.input_pipeline.streams import gaussian
from promptcl.train_lib.records import metrics as metrics_lib
from promptcl.train_lib.steps import optimizer as optimizer_lib
from tests.parity import tolerances as tol
from tests.parity.fixture import Fixture
from tests.parity.fixture import Unsupported
from tests.parity.report import Report

_TAGS = ('avg_acc', 'learning_acc', 'forgetting', 'backward')


def run_metrics(fixture: Fixture, report: Report) -> None:
  """Metrics of given accuracies, after each task."""
  for name in _prefixes(fixture, '/acc_matrix'):
    case = fixture.under(name)
    meta = fixture.cases().get(name, {})
    accuracies = _accuracies(case['accuracy'],
                             single=meta.get('single_eval_set', False))
    report.compare(f'{name}/acc_matrix',
                   official_matrix(accuracies, len(accuracies)),
                   case['acc_matrix'])
    values = [metrics_lib.task_metrics(accuracies, t)
              for t in range(len(accuracies))]
    for tag in _TAGS:
      if tag in case:
        report.compare(f'{name}/{tag}', [v.get(tag, np.nan) for v in values],
                       case[tag], tol.METRIC)


def _accuracies(recorded: np.ndarray, *, single: bool) -> np.ndarray:
  """[set, task] of the original -> ours, [task, set], NaN where not scored."""
  ours = recorded.T.astype(np.float64)
  if single:
    return ours[:, :1]
  return np.where(np.triu(np.ones(ours.shape, bool), k=1), np.nan, ours)


def official_matrix(accuracies: np.ndarray, num_tasks: int) -> np.ndarray:
  """Ours [t, i] -> the original's [i, t], square, 0 where not scored."""
  matrix = np.zeros((num_tasks, num_tasks), np.float32)
  rows, columns = accuracies.shape
  matrix[:columns, :rows] = np.nan_to_num(accuracies).T
  return matrix


def run_rates(fixture: Fixture, report: Report) -> None:
  """Learning rates, one per row; a line per schedule."""
  want = fixture['learning_rate']
  settings = {name: fixture[name] for name in (
      'schedule', 'base_learning_rate', 'num_epochs', 'warmup_epochs',
      'min_learning_rate')}
  step, steps_per_epoch = fixture['step'], fixture['steps_per_epoch']
  got = np.full(want.shape, np.nan, np.float32)
  rows = np.stack([v.astype(np.float64) for v in settings.values()], axis=1)
  for row in np.unique(rows, axis=0):
    same = (rows == row).all(axis=1)
    index, base, epochs, warmup, minimum = row.tolist()
    rate = jax.jit(functools.partial(
        optimizer_lib.learning_rate, base=base, num_epochs=int(epochs),
        warmup_epochs=int(warmup), minimum=minimum,
        schedule=_schedules(fixture)[int(index)]))
    got[same] = rate(step[same], steps_per_epoch[same])
  for index in np.unique(settings['schedule']):
    same = settings['schedule'] == index
    # Near the end, 1 - r and 1 + cos cancel: the recorded rates carry about
    # one float32 rounding of their base (in float64 the same formula is up to
    # 1e-5 of such a rate away from them).
    rounding = np.finfo(np.float32).eps * settings['base_learning_rate'].max()
    report.compare(
        f'learning_rate ({_schedules(fixture)[index]})', got[same], want,
        tol.Tolerance(absolute=float(rounding), relative=tol.RATE.relative),
        through=lambda want, same=same: want[same], remark=f'{same.sum()} rows')


def _schedules(fixture: Fixture) -> Any:
  return fixture.meta.get('schedules', optimizer_lib.SCHEDULES)


def run_gaussian(fixture: Fixture, report: Report) -> None:
  """Which classes the tasks of the Gaussian schedule hold."""
  if 'width' in fixture.meta:
    report.compare('meta.width', gaussian.WIDTH,
                   fixture.meta['width'])
  for name in _prefixes(fixture, '/probability'):
    case = fixture.under(name)
    meta = fixture.cases().get(name, {})
    if meta.get('random_label'):
      raise Unsupported(f'{name}: a schedule with random labels is not built')
    drawn = [n for n in case if n.startswith('present_seed_')]
    for array in drawn:
      seed = int(array.removeprefix('present_seed_'))
      probability, peaks, present = _schedule(case, meta, seed)
      report.compare(f'{name}/{array}', present, case[array])
    report.compare(f'{name}/probability', probability, case['probability'],
                   tol.METRIC)
    report.compare(f'{name}/peaks', peaks, case['peaks'])


def _schedule(case: Any, meta: Any, seed: int) -> tuple[np.ndarray, ...]:
  num_tasks, num_classes = case['probability'].shape
  with jax.threefry_partitionable(False):  # the bits of JAX before 0.5
    key = jax.random.PRNGKey(seed)
    if meta.get('split_first', False):
      key = jax.random.split(key)[1]
  return gaussian.schedule(
      num_tasks=num_tasks, num_classes=num_classes,
      step_per_task=meta['step_per_task'], key=key)


def _prefixes(fixture: Fixture, ending: str) -> list[str]:
  return [name.removesuffix(ending) for name in fixture.names
          if name.endswith(ending)]
