# SPDX-License-Identifier: Apache-2.0
"""A spreadsheet with one row for each config, its runs averaged over seeds.

  append('output/results.xlsx', row(runs))
  append_csv('output/results.csv', row(runs))

A row holds every option, the seeds, and in percent

  FAA   average accuracy over tasks after the last one     (`last_acc`)
  CAA   mean over tasks of the averages after each         (`caa`)
  FFM   best accuracy before the last task minus the last  (`F2`)

as mean (`_m`) and population standard deviation (`_s`, ddof 0) over seeds, then
the means of what IT-Prompt also measures: how often the right task is chosen,
and zero-shot accuracy before and after learning.  These come from `extras` in
results.json and are empty for runs without them.

Source: the columns that VQ-Prompt's released code appends to `results.xlsx`.
"""

from collections.abc import Sequence
import csv
import io
import json
import os
import pathlib
import zipfile

import numpy as np
import openpyxl

from promptcl.train_lib.compare import runs as compare_runs
from promptcl.train_lib.records import report

SCORES = {'FAA': 'last_acc', 'CAA': 'caa', 'FFM': 'F2'}
EXTRAS = {'AccTask_m': 'Acc@task', 'ZS_before': 'ZS_before',
          'ZS_routed': 'ZS_routed'}
SEEDS = 'seeds'
# What openpyxl raises for a file that is no spreadsheet, or a damaged one.
_UNREADABLE = (ValueError, KeyError, TypeError, zipfile.BadZipFile, SyntaxError)


def row(runs: Sequence[compare_runs.Run]) -> report.Json:
  """One row about runs that differ only in the seed.

  Args:
    runs: finished ones; options that differ are listed in their order.

  Returns:
    Names of columns -> text, number, or None where there is none.

  Raises:
    ValueError: runs of several configs.
  """
  groups = compare_runs.group(runs)
  if len(groups) > 1:
    raise ValueError('--xlsx appends one row, for runs that differ only in the '
                     f'seed, but these are {len(groups)} kinds: '
                     f'{"; ".join(groups)}; give each kind a call of its own')
  members, = groups.values()
  cells = {name: _option([run.options.get(name) for run in members])
           for name in members[0].options if name != 'seed'}
  cells[SEEDS] = ', '.join(str(run.seed) for run in members)
  for name, metric in SCORES.items():
    values = 100 * _numbers([run.metrics.get(metric) for run in members])
    cells[f'{name}_m'] = _number(np.mean(values))
    cells[f'{name}_s'] = _number(np.std(values))
  for name, extra in EXTRAS.items():
    values = 100 * _numbers([run.extras.get(extra) for run in members])
    cells[name] = _number(np.mean(values))
  before, after = cells['ZS_before'], cells['ZS_routed']
  cells['dZS'] = None if None in (before, after) else after - before
  return cells


def append(path: str, cells: report.Json) -> None:
  """Adds a row below the others, whole or not at all; makes folder and file.

  A header stands in the first row, and again above a row whose columns are
  others than those of the last header.

  Raises:
    ValueError: what lies there is no spreadsheet.
    OSError: it cannot be written.
  """
  file = pathlib.Path(path)
  book = _open(file)
  sheet = book.active
  if list(cells) != _last_header(sheet):
    _add(sheet, list(cells))
  _add(sheet, list(cells.values()))
  file.parent.mkdir(parents=True, exist_ok=True)
  draft = file.with_name(f'{file.name}.{os.getpid()}.tmp')
  try:
    book.save(draft)
    os.replace(draft, file)
  except OSError as error:
    reason = error.strerror or error
    raise OSError(f'{path} could not be written: {reason}') from error
  finally:
    draft.unlink(missing_ok=True)


def append_csv(path: str, cells: report.Json) -> None:
  """Adds a row as `append` does, to a text file; None is empty.

  Raises:
    OSError: it cannot be read or written.
    ValueError: what lies there is no text.
  """
  file = pathlib.Path(path)
  try:
    before = file.read_text('utf-8') if file.exists() else ''
  except UnicodeDecodeError as error:
    raise ValueError(f'{file} is no CSV file; give another name') from error
  headers = [line for line in csv.reader(io.StringIO(before))
             if SEEDS in line and 'FAA_m' in line]
  text = io.StringIO(before)
  text.seek(0, io.SEEK_END)
  writer = csv.writer(text, lineterminator='\n')
  if not headers or headers[-1] != list(cells):
    writer.writerow(cells)
  writer.writerow(cells.values())
  file.parent.mkdir(parents=True, exist_ok=True)
  report.write_atomic(file, text.getvalue())


def _open(file: pathlib.Path) -> openpyxl.Workbook:
  """The book in a file, or a new one."""
  if not file.exists():
    return openpyxl.Workbook()
  try:
    with file.open('rb') as stream:
      book = openpyxl.load_workbook(stream)
  except _UNREADABLE as error:
    raise ValueError(f'{file} is no .xlsx spreadsheet that can be read; give '
                     'another name') from error
  if not isinstance(book.active, openpyxl.worksheet.worksheet.Worksheet):
    raise ValueError(f'{file} opens on a sheet without cells; give another '
                     'name')
  return book


def _last_header(sheet: openpyxl.worksheet.worksheet.Worksheet
                 ) -> list[str] | None:
  """Names of the columns of the last row, by the header above it."""
  headers = [[cell for cell in cells if cell is not None]
             for cells in sheet.iter_rows(values_only=True)
             if SEEDS in cells and 'FAA_m' in cells]
  return headers[-1] if headers else None


def _add(sheet: openpyxl.worksheet.worksheet.Worksheet, values: Sequence[object]
         ) -> None:
  """Appends cells; a text is never taken for a formula."""
  sheet.append(values)
  for cell, value in zip(sheet[sheet.max_row], values, strict=False):
    if isinstance(value, str):
      cell.data_type = 's'


def _option(values: Sequence[object]) -> object:
  """What runs have for a key: one value, or all of them."""
  if all(value == values[0] for value in values):
    value = values[0]
    plain = value is None or isinstance(value, (bool, int, float, str))
    return value if plain else json.dumps(value)
  return ', '.join(value if isinstance(value, str) else json.dumps(value)
                   for value in values)


def _numbers(values: Sequence[float | None]) -> np.ndarray:
  """None becomes NaN, so that a mean is one over all runs or none."""
  return np.array(values, np.float64)


def _number(value: float) -> float | None:
  return float(value) if np.isfinite(value) else None
