# SPDX-License-Identifier: Apache-2.0
"""Results as small text tables for the screen; shares in percent."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from promptcl.train_lib.records import metrics

if TYPE_CHECKING:
  from promptcl.train_lib.records.results import Results

SELECTION_COLUMNS = ('last_acc', 'F2', 'F1', 'caa', 'micro_last_acc',
                     'learning_acc', 'BWT')


def format_table(header: Sequence[str],
                 rows: Iterable[Sequence[object]]) -> str:
  """Aligned columns, the first one to the left, the others to the right."""
  cells = [[str(cell) for cell in row] for row in (header, *rows)]
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  lines = ['  '.join([row[0].ljust(widths[0]),
                      *(c.rjust(w) for c, w in zip(
                          row[1:], widths[1:], strict=True))])
           for row in cells]
  lines.insert(1, '  '.join('-' * width for width in widths))
  return '\n'.join(line.rstrip() for line in lines)


def comparison_table(summaries: Mapping[str, Mapping[str, float]],
                     columns: Sequence[str] = ('avg_acc', 'forgetting')) -> str:
  """One line per run.

  Args:
    summaries: `{label: Results.summary()}`.
    columns: which entries of the summaries to show; one that a run does not
      have (forgetting after a single task) shows as a dash.
  """
  rows = [[label, *(percent(summary.get(c, np.nan)) for c in columns)]
          for label, summary in summaries.items()]
  return format_table(['', *columns], rows)


def run_table(results: 'Results', headline_metrics: Sequence[str] = ()) -> str:
  """Metrics per selection, then one line per task, of a `Results`.

  Args:
    results: of a run, finished or not.
    headline_metrics: ids that come first.
  """
  if results.last_task < 0:
    return 'nothing has been evaluated yet'
  columns = tuple(dict.fromkeys((*headline_metrics, *SELECTION_COLUMNS)))
  rows = []
  for name in results.correct:
    values = results.metrics(name)
    label = f'{name} *' if name == results.headline else name
    rows.append([label, *(percent(values[c]) for c in columns)])
  return '\n'.join([
      f'After task {results.last_task + 1} of {results.num_tasks}, percent.',
      'last_acc and F1 are the avg_acc and forgetting of the original; '
      '* is the headline.', '',
      format_table(['selection', *columns], rows), '',
      _task_table(results)])


def percent(share: float) -> str:
  """`83.10` for 0.831, a dash for NaN."""
  return '-' if np.isnan(share) else f'{100 * share:.2f}'


def _task_table(results: 'Results') -> str:
  """Per task, from 1: accuracy on its set then and now, averages over sets.

  With a single set, as after 200 episodes, only tasks that it was scored after.
  """
  accuracies = results.accuracies()
  own_set = accuracies.shape[0] == accuracies.shape[1]
  rows = []
  for task in range(results.last_task + 1):
    evaluated = not np.isnan(accuracies[task, :task + 1]).all()
    if not (evaluated or own_set):
      continue
    tags = metrics.task_metrics(accuracies, task) if evaluated else {}
    first, last = ((accuracies[task, task], accuracies[results.last_task, task])
                   if own_set else (np.nan, np.nan))
    name = results.eval_set_names[task if own_set else 0]
    rows.append([task + 1, name, percent(first), percent(last),
                 percent(tags.get('avg_acc', np.nan)),
                 percent(tags.get('forgetting', np.nan)),
                 _number(results.seconds[task]),
                 _number(results.images_per_second[task])])
  return format_table(['task', 'evaluation set', 'first', 'last', 'avg_acc',
                       'forgetting', 'seconds', 'images/s'], rows)


def _number(value: float) -> str:
  return '-' if np.isnan(value) else f'{value:.1f}'
