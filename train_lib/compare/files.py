# SPDX-License-Identifier: Apache-2.0
"""A table of runs as text, CSV, Markdown and LaTeX; shares in percent."""

from collections.abc import Sequence
import csv
import dataclasses
import io

import numpy as np

from promptcl.train_lib.records import tables

_LATEX = str.maketrans({c: '\\' + c for c in '_%&#${}'} |
                       {'±': r'$\pm$', '~': r'\textasciitilde{}',
                        '^': r'\textasciicircum{}',
                        '\\': r'\textbackslash{}'})


@dataclasses.dataclass(frozen=True)
class Row:
  """Runs that differ only in the seed.

  Attributes:
    name: of the row.
    seeds: ascending.
    protocol: digest, shown when protocols are mixed.
    values: (mean, sample standard deviation) of each column, as shares.
    is_difference: whether they are differences and show their signs.
  """

  name: str
  seeds: Sequence[int]
  protocol: str
  values: Sequence[tuple[float, float]]
  is_difference: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
  """Rows under metric ids.

  Attributes:
    columns: metric ids.
    rows: one per group of runs.
    mixed: whether protocols differ, so that a column names them.
  """

  columns: tuple[str, ...]
  rows: Sequence[Row]
  mixed: bool

  def cells(self) -> tuple[list[str], list[list[str]]]:
    """(header, rows) as text."""
    header = ['run', *self.columns, 'runs', 'seeds']
    rows = [[row.name,
             *('+' * (row.is_difference and value[0] > 0)
               + mean_and_deviation(*value) for value in row.values),
             str(len(row.seeds)), ', '.join(map(str, row.seeds))]
            for row in self.rows]
    if self.mixed:
      header.append('protocol')
      rows = [[*cells, row.protocol]
              for cells, row in zip(rows, self.rows, strict=True)]
    return header, rows

  def csv(self) -> str:
    """Numbers as shares, unrounded; empty where there is none."""
    header = ['run', 'runs', 'seeds']
    for column in self.columns:
      header += [column, f'{column} deviation']
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(header + ['protocol'] * self.mixed)
    for row in self.rows:
      numbers = ['' if np.isnan(x) else repr(x)
                 for value in row.values for x in value]
      writer.writerow([row.name, len(row.seeds),
                       ' '.join(map(str, row.seeds)), *numbers]
                      + [row.protocol] * self.mixed)
    return text.getvalue()

  def markdown(self) -> str:
    """A table for a README or an issue."""
    header, rows = self.cells()
    lines = [header, ['---', *('---:' for _ in header[1:])], *rows]
    escaped = [[cell.replace('|', r'\|') for cell in line] for line in lines]
    return ''.join(f'| {" | ".join(line)} |\n' for line in escaped)

  def latex(self) -> str:
    """A `tabular` that needs no package."""
    header, rows = self.cells()
    lines = [' & '.join(cell.translate(_LATEX) for cell in line) + r' \\'
             for line in (header, *rows)]
    return '\n'.join([rf'\begin{{tabular}}{{l{"r" * (len(header) - 1)}}}',
                      r'\hline', lines[0], r'\hline', *lines[1:], r'\hline',
                      r'\end{tabular}', ''])


def mean_and_deviation(mean: float, deviation: float) -> str:
  """`83.10 ± 0.42`; no deviation after a single run, a dash for NaN."""
  if np.isnan(deviation):
    return tables.percent(mean)
  return f'{tables.percent(mean)} ± {tables.percent(deviation)}'
