# SPDX-License-Identifier: Apache-2.0
r"""One table of many runs: mean and sample standard deviation over seeds.

  python -m train_lib.compare runs/l2p_0 runs/l2p_1 runs/dualprompt_0 \
    --metrics last_acc,F1,F2 --markdown table.md

Runs that differ in nothing but the seed share a row.  Runs whose protocols
differ (see fingerprint.py) are refused, since their numbers must not share a
column; `--mix` prints them with a column that tells the protocols apart.

`--paired` adds what each row has more than the first one: runs of equal seed
start alike and see the same images, so their differences vary less than they
do.  `--metrics task_inc:last_acc,...` asks for scores with the task known.

`--xlsx FILE` appends the runs, which must then be of one config, to a
spreadsheet as one row (see spreadsheet.py), `--row_csv FILE` to a text file.
"""

import argparse
from collections.abc import Sequence
import sys

import numpy as np

from promptcl.train_lib.compare import files as compare_files
from promptcl.train_lib.compare import runs as compare_runs
from promptcl.train_lib.compare import spreadsheet
from promptcl.train_lib.records import fingerprint
from promptcl.train_lib.records import report
from promptcl.train_lib.records import tables


def statistics(runs: Sequence[compare_runs.Run], metric: str
               ) -> tuple[float, float]:
  """Mean and sample standard deviation of a metric, NaN where undefined.

  Raises:
    ValueError: a metric that no run has.
  """
  return _mean_and_deviation(_values(runs, metric))


def difference(name: str, runs: Sequence[compare_runs.Run],
               first: Sequence[compare_runs.Run], columns: Sequence[str]
               ) -> compare_files.Row:
  """A row of `runs - first`, seed by seed, over the seeds that both have.

  Raises:
    ValueError: there are none.
  """
  ours, theirs = ({run.seed: run for run in group} for group in (runs, first))
  seeds = [seed for seed in ours if seed in theirs]
  if not seeds:
    raise ValueError(f'no pairs for {name}: their seeds are '
                     f'{", ".join(map(str, ours))} and '
                     f'{", ".join(map(str, theirs))}')
  pairs = [[group[seed] for seed in seeds] for group in (ours, theirs)]
  return compare_files.Row(name, seeds, '', [
      _mean_and_deviation(_values(pairs[0], c) - _values(pairs[1], c))
      for c in columns], is_difference=True)


def build(runs: Sequence[compare_runs.Run], *, columns: Sequence[str] = (),
          mix: bool = False, paired: bool = False) -> compare_files.Table:
  """The table of finished runs.

  Args:
    runs: from `compare_runs.read`.
    columns: metric ids; (): those that the runs ask for.
    mix: whether protocols may differ.
    paired: whether differences from the first row follow.

  Raises:
    ValueError: see `compare_runs`, `statistics` and `difference`.
  """
  compare_runs.settle_orders(runs)
  if not mix:
    compare_runs.check_protocols(runs)
  columns = columns or tuple(dict.fromkeys(
      name for run in runs for name in run.headline))
  groups = compare_runs.group(runs)
  rows = [compare_files.Row(
      name, [run.seed for run in members],
      fingerprint.digest(members[0].protocol) if mix else '',
      [statistics(members, column) for column in columns])
          for name, members in groups.items()]
  if paired:
    first, *others = groups
    if not others:
      raise ValueError('--paired needs runs that differ in more than the seed')
    rows += [difference(f'{other} - {first}', groups[other], groups[first],
                        columns) for other in others]
  return compare_files.Table(tuple(columns), rows, mix)


def _values(runs: Sequence[compare_runs.Run], metric: str) -> np.ndarray:
  missing = [run for run in runs if metric not in run.metrics]
  if missing:
    ids = [name for name in missing[0].metrics
           if '@' not in name and ':' not in name]
    raise ValueError(f'{missing[0].folder} has no metric {metric!r}, have '
                     f'{", ".join(ids)} and avg_acc@T, micro_acc@T after task '
                     'T (from 0), and task_inc:ID of most with the task known')
  return np.array([run.metrics[metric] for run in runs], np.float64)


def _mean_and_deviation(values: np.ndarray) -> tuple[float, float]:
  return (float(values.mean()),
          float(values.std(ddof=1)) if len(values) > 1 else np.nan)


def run(arguments: argparse.Namespace) -> str:
  """Reads, compares and writes; what the screen shows."""
  runs = [compare_runs.read(folder, arguments.selection)
          for folder in arguments.folders]
  left_out = [f'left out, not finished: {run.folder}'
              for run in runs if not run.finished]
  finished = [run for run in runs if run.finished]
  if not finished:
    raise ValueError('none of the runs is finished: '
                     + ', '.join(arguments.folders))
  table = build(
      finished, mix=arguments.mix, paired=arguments.paired, columns=tuple(
          name for name in arguments.metrics.split(',') if name))
  files = [(append, path) for append, path in (
      (spreadsheet.append, arguments.xlsx),
      (spreadsheet.append_csv, arguments.row_csv)) if path]
  cells = spreadsheet.row(finished) if files else {}
  for path, text in ((arguments.csv, table.csv),
                     (arguments.markdown, table.markdown),
                     (arguments.latex, table.latex)):
    if path:
      report.write_atomic(path, text())
  for append, path in files:
    append(path, cells)
  header, rows = table.cells()
  told = _footnotes(finished) + arguments.paired * [
      'A - B: mean ± deviation of the differences of runs with equal seeds.']
  return '\n'.join([*left_out, tables.format_table(header, rows), '', *told])


def _footnotes(runs: Sequence[compare_runs.Run]) -> list[str]:
  """What varies with the seed, and how mixed protocols differ."""
  orders = sorted({run.protocol['class_order'] for run in runs})
  selections = sorted({run.protocol['selection'] for run in runs} - {'none'})
  lines = ['Percent; mean ± sample standard deviation over seeds, which set '
           'start values, data order and augmentation.',
           f'Class order: {"; ".join(orders)}. Prompts chosen: '
           f'{", ".join(selections) or "none"}.']
  protocols = {fingerprint.digest(r.protocol): r.protocol for r in runs}
  for name, protocol in protocols.items():
    told = [f'{key} {value!r}' for key, value in protocol.items()
            if any(p.get(key) != value for p in protocols.values())]
    if told:
      lines.append(f'Protocol {name}: {", ".join(told)}.')
  return lines


def main(argv: Sequence[str] | None = None) -> int:
  """Exit status 0, or 1 after one line on stderr."""
  parser = argparse.ArgumentParser(
      prog='python -m train_lib.compare', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('folders', nargs='+', metavar='DIR', help='a workdir')
  parser.add_argument('--metrics', default='', metavar='ID,ID',
                      help='columns; default: headline_metrics of the runs')
  parser.add_argument('--selection', default='',
                      help='batch, per_sample, ...; default: the headline')
  parser.add_argument('--paired', action='store_true',
                      help='add differences from the first row, by seed')
  parser.add_argument('--mix', action='store_true',
                      help='allow different protocols in one column')
  for kind in ('csv', 'markdown', 'latex'):
    parser.add_argument(f'--{kind}', default='', metavar='FILE')
  parser.add_argument('--xlsx', default='', metavar='FILE',
                      help='append runs of one config as a row')
  parser.add_argument('--row_csv', default='', metavar='FILE',
                      help='append that row to a text file')
  try:
    print(run(parser.parse_args(argv)))
  except (ValueError, OSError) as error:
    print('error:', ' '.join(str(error).split()), file=sys.stderr)
    return 1
  return 0
