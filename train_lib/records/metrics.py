# SPDX-License-Identifier: Apache-2.0
"""What a run is worth: functions of its accuracy matrix.

`accuracies[t, i]` is the share of evaluation set i that is right after training
on task t, both counted from 0, as a fraction; NaN where nothing was evaluated.
There is one set per task, or a single one for all tasks, for which forgetting
and transfer do not apply.  `totals[i]` is the number of images in set i.

The literature uses one word for several formulas, so each has an id of its own:

  avg_acc@t  micro_acc@t      after task t: mean over sets; mean over images
  last_acc   micro_last_acc   the same after the last task
  caa        micro_caa        mean over tasks of avg_acc@t, of micro_acc@t
  best_acc   micro_best_acc   largest one; optimistic, never a headline
  learning_acc                each task right after it was learned
  F1 ... F5  BWT  BWT-pairs  BWT-LibC  FWT     see the functions

topk@t of the literature is micro_acc@t of the selection `top5`.

Every function of `accuracies` alone speaks of the end of the matrix it is
given; `accuracies[:t + 1, :t + 1]` asks for the state after task t.  What
cannot be computed (forgetting after one task, say) is NaN.
"""

from collections.abc import Callable, Sequence
import functools

import numpy as np

VERSION = 1  # part of a protocol's fingerprint; raise it with any formula


def average_accuracy(accuracies: np.ndarray) -> float:
  """Macro average over the sets seen so far, after the last task."""
  return _mean(_last_row(accuracies))


def micro_accuracy(accuracies: np.ndarray, totals: np.ndarray) -> float:
  """Share of all images seen so far that is right after the last task."""
  row = _last_row(accuracies)
  weights = np.asarray(totals, np.float64)[:len(row)]
  return float(np.sum(row * weights) / np.sum(weights))


def learning_accuracy(accuracies: np.ndarray) -> float:
  """Mean accuracy of each task right after training on it."""
  return _mean(np.diagonal(_learned(accuracies)))


def forgetting(accuracies: np.ndarray) -> float:
  """F1: best accuracy ever minus the last, mean over old tasks.

  The last one competes too, so this is never negative.  The original's.
  """
  old = _learned(accuracies)[:, :-1]
  return _mean(_best(old) - old[-1])


def forgetting_textbook(accuracies: np.ndarray) -> float:
  """F2: as F1, but the best is that before the last task; may be negative."""
  learned = _learned(accuracies)
  if len(learned) < 2:
    return np.nan
  return _mean(_best(learned[:-1, :-1]) - learned[-1, :-1])


def forgetting_per_step(accuracies: np.ndarray) -> float:
  """F3: mean drop of the old tasks from one task to the next, mean over tasks.

  CODA-Prompt's figure; a third to a fifth of F1 for the same run.
  """
  learned = _learned(accuracies)
  drops = [_mean(learned[t - 1, :t] - learned[t, :t])
           for t in range(1, len(learned))]
  return _mean(drops)


def forgetting_libcontinual(accuracies: np.ndarray) -> float:
  """F4: first minus last accuracy; omits, but counts, the newest old task."""
  learned = _learned(accuracies)
  if len(learned) < 2:
    return np.nan
  drop = (np.diagonal(learned) - learned[-1])[:-2]
  return float(np.sum(drop) / (len(learned) - 1))


def backward_transfer(accuracies: np.ndarray) -> float:
  """BWT: last minus first accuracy, mean over old tasks."""
  learned = _learned(accuracies)
  return _mean((learned[-1] - np.diagonal(learned))[:-1])


def backward_transfer_pairs(accuracies: np.ndarray, *,
                            distance: int = 1) -> float:
  """BWT-pairs: accuracy of j after t minus its first one, mean over t > j.

  With `distance=2` it is BWT-LibC: pairs t = j + 1 count as 0.
  """
  learned = _learned(accuracies)
  num_pairs = len(learned) * (len(learned) - 1) / 2
  if not num_pairs:
    return np.nan
  gains = learned - np.diagonal(learned)
  return float(np.sum(gains[np.tril_indices(len(learned), -distance)])
               / num_pairs)


def forward_transfer(accuracies: np.ndarray,
                     random_accuracies: np.ndarray) -> float:
  """FWT: accuracy just before a task is learned minus that of a random head.

  Needs the next set evaluated too, and accuracies of an untrained head, [T].
  """
  before = np.diagonal(np.asarray(accuracies, np.float64), offset=1)
  return _mean(before - np.asarray(random_accuracies, np.float64)[1:])


_OF_TASKS: dict[str, Callable[[np.ndarray], float]] = {
    'learning_acc': learning_accuracy,
    'F1': forgetting,
    'F2': forgetting_textbook,
    'F3': forgetting_per_step,
    'F4': forgetting_libcontinual,
    'F5': lambda accuracies: -backward_transfer(accuracies),  # Avalanche
    'BWT': backward_transfer,
    'BWT-pairs': backward_transfer_pairs,
    'BWT-LibC': functools.partial(backward_transfer_pairs, distance=2),
}


# Ids after the last task; those with @t are there for each task beside them.
NAMES = ('last_acc', 'caa', 'best_acc', 'micro_last_acc', 'micro_caa',
         'micro_best_acc', *_OF_TASKS, 'FWT')


def all_metrics(accuracies: np.ndarray, totals: np.ndarray, *,
                random_accuracies: np.ndarray | None = None
                ) -> dict[str, float]:
  """Every metric of the module docstring, by id.

  Those of an unfinished run ([T, E] with NaN rows at the end) are those after
  its last task.  FWT needs the accuracies [E] of a random head.

  Raises:
    ValueError: neither one set per task nor a single one, or nothing evaluated.
  """
  done = _until_last_evaluation(accuracies)
  tasks = [t for t in range(len(done)) if not np.isnan(done[t]).all()]
  until = {t: done[:t + 1, :t + 1] for t in tasks}
  macro = {t: average_accuracy(a) for t, a in until.items()}
  micro = {t: micro_accuracy(a, totals) for t, a in until.items()}
  values = {}
  for prefix, name, curve in [('', 'avg_acc', macro),
                              ('micro_', 'micro_acc', micro)]:
    values |= {f'{name}@{t}': value for t, value in curve.items()}
    values[prefix + 'last_acc'] = curve[tasks[-1]]
    values[prefix + 'caa'] = _mean(list(curve.values()))
    values[prefix + 'best_acc'] = float(np.max(list(curve.values())))
  one_each = done.shape[0] == done.shape[1]
  for name, function in _OF_TASKS.items():
    values[name] = function(done) if one_each else np.nan
  transfer = one_each and random_accuracies is not None
  values['FWT'] = (forward_transfer(done, random_accuracies[:len(done)])
                   if transfer else np.nan)
  return values


def task_metrics(accuracies: np.ndarray, task: int) -> dict[str, float]:
  """What the original writes after a task, under its TensorBoard tags.

  `forgetting` and `backward` are there from the second task on.  With a single
  evaluation set the original averages over rows of zeros, and so does this;
  otherwise what was not evaluated makes NaN.

  Raises:
    ValueError: nothing was evaluated after `task` (an index).
  """
  seen = np.asarray(accuracies, np.float64)[:task + 1, :task + 1]  # [t, i]
  measured = seen[-1][~np.isnan(seen[-1])]
  if not measured.size:
    raise ValueError(f'task {task} has not been evaluated')
  matrix = seen
  if seen.shape[1] <= task:  # a single evaluation set
    matrix = np.zeros((task + 1, task + 1))
    matrix[:, 0] = np.nan_to_num(seen[:, 0], nan=0.)
  values = {'avg_acc': _mean(measured),
            'learning_acc': learning_accuracy(matrix)}
  if task:
    values['forgetting'] = forgetting(matrix)
    values['backward'] = backward_transfer(matrix)
  return values


def _mean(values: Sequence[float]) -> float:
  """Mean; NaN, without NumPy's warning, for none."""
  return float(np.mean(values)) if len(values) else np.nan


def _last_row(accuracies: np.ndarray) -> np.ndarray:
  """Accuracies after the last task, of the sets seen by then."""
  return np.asarray(accuracies, np.float64)[-1, :len(accuracies)]


def _learned(accuracies: np.ndarray) -> np.ndarray:
  """[T, T] as float64 with NaN for the sets of tasks still to come."""
  accuracies = np.asarray(accuracies, np.float64)
  if accuracies.ndim != 2 or accuracies.shape[0] != accuracies.shape[1]:
    raise ValueError('this metric needs one evaluation set per task, not '
                     f'accuracies of shape {accuracies.shape}')
  later = np.triu(np.ones(accuracies.shape, bool), k=1)
  return np.where(later, np.nan, accuracies)


def _best(learned: np.ndarray) -> np.ndarray:
  """Largest accuracy of each set; NaN when an evaluation of it is missing."""
  early = np.triu(np.ones(learned.shape, bool), k=1)
  return np.max(np.where(early, -np.inf, learned), axis=0)


def _until_last_evaluation(accuracies: np.ndarray) -> np.ndarray:
  """Drops the tasks that come after the last evaluated one."""
  accuracies = np.asarray(accuracies, np.float64)
  num_tasks, num_sets = accuracies.shape
  if num_sets not in (1, num_tasks):
    raise ValueError(f'{num_sets} evaluation sets for {num_tasks} tasks: there '
                     'must be one per task, or a single one')
  evaluated = np.flatnonzero(~np.isnan(accuracies).all(axis=1))
  if not evaluated.size:
    raise ValueError('nothing has been evaluated yet')
  return accuracies[:evaluated[-1] + 1, :evaluated[-1] + 1]
