# SPDX-License-Identifier: Apache-2.0
"""What a run measured: counts of correct images, never only their ratio.

  results = Results(len(stream.tasks), names, headline='batch')
  results.record(0, {0: Scores(total=200, correct={'batch': 183}, loss=.31)})
  results.save(workdir, config_json=config.to_json(), extra={...})

Tasks and evaluation sets count from 0, as in the tags `accuracy_0`, ...; shares
are fractions, except in tables for the screen, which show percent.  A selection
says how a prompt is chosen and which classes compete: `batch` (majority vote of
the batch) or `per_sample`, with the suffix `_task_inc` where only the classes
of the image's own task compete; `until_own_task` is chosen as the headline is,
and classes of tasks up to the image's own compete.
"""

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from promptcl.train_lib.records import metrics
from promptcl.train_lib.records import report
from promptcl.train_lib.records import tables
from promptcl.train_lib.records.report import Json

_NOT_EVALUATED = -1


@dataclasses.dataclass(frozen=True)
class Scores:
  """One evaluation of one evaluation set.

  Attributes:
    total: images scored.
    correct: `{selection: images classified correctly}`.
    loss: mean cross-entropy.
    prompt_counts: how often each prompt of the pool was used, [M], if any is.
  """

  total: int
  correct: Mapping[str, int]
  loss: float
  prompt_counts: np.ndarray | None = None


class Results:
  """Counts of every evaluation set after every task.

  Attributes:
    correct: `{selection: int64 [T, E]}`, -1 where not evaluated.
    totals: int64 [E], 0 while unknown.
    loss: [T, E], NaN where not evaluated.
    seconds, images_per_second: [T], of training; NaN where not given.
    prompt_counts: int64 [T, E, M], 0 where not evaluated; None without a pool.
    extras: what only one method measures, name -> share, such as `Acc@task`
      and `ZS_before`; written and stored with the rest.
  """

  def __init__(self, num_tasks: int, eval_set_names: Sequence[str],
               headline: str):
    """`headline` is the selection that summaries speak of."""
    if len(eval_set_names) not in (1, num_tasks):
      raise ValueError(f'{len(eval_set_names)} evaluation sets for {num_tasks} '
                       'tasks: there must be one per task, or a single one')
    self.num_tasks = num_tasks
    self.eval_set_names = tuple(eval_set_names)
    self.headline = headline
    self.correct: dict[str, np.ndarray] = {}
    self.totals = np.zeros(len(eval_set_names), np.int64)
    self.loss = np.full((num_tasks, len(eval_set_names)), np.nan)
    self.seconds = np.full(num_tasks, np.nan)
    self.images_per_second = np.full(num_tasks, np.nan)
    self.prompt_counts: np.ndarray | None = None
    self.extras: dict[str, float] = {}

  def record(self, task_index: int, scores: Mapping[int, Scores], *,
             seconds: float = np.nan,
             images_per_second: float = np.nan) -> None:
    """Stores the evaluation after a task in place of an earlier one.

    Nothing in `scores` means that the task was trained but not evaluated.

    Raises:
      ValueError: counts that cannot be, another number of images than before,
        or other selections than before.  Nothing is stored then.
    """
    if not 0 <= task_index < self.num_tasks:
      raise ValueError(f'task {task_index} of {self.num_tasks}')
    for index, score in scores.items():
      self._check(index, score, like=next(iter(scores.values())))
    for counts in self.correct.values():
      counts[task_index] = _NOT_EVALUATED
    self.loss[task_index] = np.nan
    if self.prompt_counts is not None:
      self.prompt_counts[task_index] = 0
    for index, score in scores.items():
      self.totals[index] = score.total
      self.loss[task_index, index] = score.loss
      for selection, count in score.correct.items():
        self._allocate(selection)[task_index, index] = count
      if score.prompt_counts is not None:
        self._allocate_prompts(score.prompt_counts.shape)
        self.prompt_counts[task_index, index] = score.prompt_counts
    self.seconds[task_index] = seconds
    self.images_per_second[task_index] = images_per_second

  @property
  def last_task(self) -> int:
    """Index of the last task with an evaluation, -1 before the first."""
    evaluated = [t for counts in self.correct.values()
                 for t in np.nonzero(counts != _NOT_EVALUATED)[0]]
    return int(max(evaluated, default=-1))

  @property
  def finished(self) -> bool:
    """Whether the last task of the run has been evaluated."""
    return self.last_task == self.num_tasks - 1

  def accuracies(self, selection: str | None = None) -> np.ndarray:
    """Shares of correct images [T, E], NaN where not evaluated."""
    selection = selection or self.headline
    if selection not in self.correct:
      raise ValueError(f'nothing was recorded for selection {selection!r}, '
                       f'only for {sorted(self.correct)}')
    counts = self.correct[selection]
    return np.where(counts == _NOT_EVALUATED, np.nan,
                    counts / np.maximum(self.totals, 1))

  def metrics(self, selection: str | None = None) -> dict[str, float]:
    """`metrics.all_metrics` of a selection (default: the headline's)."""
    return metrics.all_metrics(self.accuracies(selection), self.totals)

  def summary(self, selection: str | None = None) -> dict[str, float]:
    """Headline metrics by id, and the original's tags of the last task."""
    values = self.metrics(selection)
    return ({name: values[name] for name in tables.SELECTION_COLUMNS} |
            metrics.task_metrics(self.accuracies(selection), self.last_task))

  def arrays(self) -> dict[str, np.ndarray]:
    """Everything recorded, as copies, for a checkpoint."""
    arrays = {f'correct:{k}': v.copy() for k, v in self.correct.items()}
    arrays |= {f'extra:{k}': np.float64(v) for k, v in self.extras.items()}
    for name in ('totals', 'loss', 'seconds', 'images_per_second',
                 'prompt_counts'):
      if (value := getattr(self, name)) is not None:
        arrays[name] = value.copy()
    return arrays

  def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
    """Takes back what `arrays` gave.

    Raises:
      ValueError: they come from a run with other tasks or evaluation sets.
    """
    if arrays['loss'].shape != self.loss.shape:
      raise ValueError(f'stored results are of {arrays["loss"].shape} tasks '
                       f'and evaluation sets, this run has {self.loss.shape}')
    arrays = {k: np.array(v) for k, v in arrays.items()}
    self.correct = {k.removeprefix('correct:'): v for k, v in arrays.items()
                    if k.startswith('correct:')}
    self.extras = {k.removeprefix('extra:'): float(v)
                   for k, v in arrays.items() if k.startswith('extra:')}
    for name in ('totals', 'loss', 'seconds', 'images_per_second'):
      setattr(self, name, arrays[name])
    self.prompt_counts = arrays.get('prompt_counts')

  def report(self, *, config_json: str, extra: Json | None = None
             ) -> Json:
    """What results.json holds; see `report.py`."""
    return report.build(self, config_json=config_json, extra=extra or {})

  def save(self, workdir: str, *, config_json: str,
           extra: Json | None = None) -> None:
    """Writes results.json and results.csv, each in one piece or not at all.

    Args:
      workdir: existing directory.
      config_json: the expanded config, as JSON.
      extra: more entries for results.json, such as `class_order` and
        `weights_sha256`.
    """
    report.save(workdir, self.report(config_json=config_json, extra=extra))

  @classmethod
  def from_report(cls, loaded: Json) -> 'Results':
    """Rebuilds the results from `report.load(workdir)`."""
    names = [s['name'] for s in loaded['eval_sets']]
    results = cls(len(loaded['tasks']), names, loaded['headline']['selection'])
    results.restore(report.arrays(loaded))
    return results

  def table(self, headline_metrics: Sequence[str] = ()) -> str:
    """Scores per selection and per task, in percent, for the screen."""
    return tables.run_table(self, headline_metrics)

  def _check(self, index: int, score: Scores, *, like: Scores) -> None:
    """Raises ValueError on scores that contradict themselves or older ones."""
    if not 0 <= index < len(self.eval_set_names):
      raise ValueError(f'evaluation set {index} of {len(self.eval_set_names)}')
    name = self.eval_set_names[index]
    if score.total < 1 or self.totals[index] not in (0, score.total):
      raise ValueError(f'{name}: {score.total} images were scored, expected '
                       f'{self.totals[index] or "at least 1"}')
    for selection, count in score.correct.items():
      if not 0 <= count <= score.total:
        raise ValueError(f'{name}: {count} of {score.total} images are correct '
                         f'with selection {selection!r}')
    expected = set(self.correct) or {self.headline, *like.correct}
    if set(score.correct) != expected:
      raise ValueError(f'{name}: scored with {sorted(score.correct)}, expected '
                       f'{sorted(expected)}')

  def _allocate(self, selection: str) -> np.ndarray:
    """Counts of a selection, made on first use."""
    return self.correct.setdefault(
        selection, np.full(self.loss.shape, _NOT_EVALUATED, np.int64))

  def _allocate_prompts(self, shape: tuple[int, ...]) -> None:
    """Makes room for counts of a pool whose size is now known."""
    if self.prompt_counts is None:
      self.prompt_counts = np.zeros(self.loss.shape + shape, np.int64)


def load(workdir: str) -> Results:
  """Results of an earlier run; `report.load` gives all of its results.json."""
  return Results.from_report(report.load(workdir))
