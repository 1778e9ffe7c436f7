# SPDX-License-Identifier: Apache-2.0
"""Rows of a spreadsheet, and what is found in the file afterwards."""

import csv

import openpyxl
import pytest

from promptcl.train_lib.compare import runs as compare_runs
from promptcl.train_lib.compare import spreadsheet

LISTED = ['FAA_m', 'FAA_s', 'CAA_m', 'CAA_s', 'FFM_m', 'FFM_s', 'AccTask_m',
          'ZS_before', 'ZS_routed', 'dZS']
EXTRAS = {'Acc@task': .9, 'ZS_before': .6, 'ZS_routed': .7}


def _run(seed, metrics=(.5, .6, .1), *, extras=None, options=None, **config):
  ids = 'last_acc', 'caa', 'F2'
  return compare_runs.Run(
      folder=f'run{seed}', seed=seed, config={'method': 'l2p', **config},
      protocol={}, metrics=dict(zip(ids, metrics, strict=True)), headline=(),
      num_tasks=3, finished=True,
      options={'method': 'l2p', 'seed': seed, **(options or {})},
      extras=extras or {})


def _rows(path):
  return list(openpyxl.load_workbook(path).active.values)


def test_columns_are_options_seeds_and_those_listed():
  cells = spreadsheet.row([_run(0, options={'continual.num_tasks': 3})])
  assert list(cells) == ['method', 'continual.num_tasks', 'seeds', *LISTED]


def test_means_and_population_deviations_by_hand():
  cells = spreadsheet.row([
      _run(7, (.5, .6, .1), extras=EXTRAS),
      _run(3, (.8, .9, -.2), extras={**EXTRAS, 'ZS_routed': .4})])
  assert cells['seeds'] == '3, 7'
  assert [cells[name] for name in LISTED] == pytest.approx(
      [65, 15, 75, 15, -5, 15, 90, 60, 55, -5])


def test_one_seed_does_not_deviate():
  cells = spreadsheet.row([_run(0)])
  assert (cells['FAA_m'], cells['FAA_s']) == (50, 0)


def test_what_some_runs_lack_is_empty():
  cells = spreadsheet.row([_run(0, extras=EXTRAS), _run(
      1, (.5, .6, None), extras={'Acc@task': .7, 'ZS_before': None})])
  assert cells['AccTask_m'] == pytest.approx(80)
  for name in 'ZS_before', 'ZS_routed', 'dZS', 'FFM_m', 'FFM_s':
    assert cells[name] is None, name
  assert cells['CAA_m'] == 60


def test_options_that_vary_with_the_seed_are_listed():
  cells = spreadsheet.row([
      _run(s, options={'order': s, 'path': f'/x/{s}', 'layers': [0, 1],
                       'none': None}) for s in (1, 0)])
  assert (cells['order'], cells['path']) == ('0, 1', '/x/0, /x/1')
  assert (cells['layers'], cells['none']) == ('[0, 1]', None)


def test_runs_of_two_configs_are_refused():
  runs = [_run(0), _run(1, optim='sgd')]
  with pytest.raises(ValueError, match='these are 2 kinds: l2p.*; l2p'):
    spreadsheet.row(runs)


def test_rows_share_a_header_until_columns_change(tmp_path):
  path = tmp_path / 'new' / 'results.xlsx'
  first = {'name': 'a', 'seeds': '0', 'FAA_m': 50.5, 'dZS': None}
  other = {'name': 'b', 'more': True, 'seeds': '0', 'FAA_m': 2}
  for cells in first, {**first, 'name': None}, other, other, first:
    spreadsheet.append(str(path), cells)
  assert _rows(path) == [
      tuple(first), ('a', '0', 50.5, None), (None, '0', 50.5, None),
      tuple(other), ('b', True, '0', 2), ('b', True, '0', 2),
      tuple(first), ('a', '0', 50.5, None)]
  assert [p.name for p in path.parent.iterdir()] == ['results.xlsx']


def test_a_csv_has_the_same_rows(tmp_path):
  path = tmp_path / 'new' / 'results.csv'
  first = {'name': 'a, "b"', 'seeds': '0', 'FAA_m': 50.5, 'dZS': None}
  other = {'name': 'c', 'seeds': '0', 'FAA_m': 2}
  for cells in first, first, other:
    spreadsheet.append_csv(str(path), cells)
  with path.open(encoding='utf-8', newline='') as file:
    assert list(csv.reader(file)) == [
        list(first), ['a, "b"', '0', '50.5', ''], ['a, "b"', '0', '50.5', ''],
        list(other), ['c', '0', '2']]
  path.write_bytes(b'\xff\xfe')
  with pytest.raises(ValueError, match='results.csv is no CSV'):
    spreadsheet.append_csv(str(path), first)


def test_texts_are_no_formulas(tmp_path):
  path = tmp_path / 'results.xlsx'
  spreadsheet.append(str(path), {'x': '=1+1', 'seeds': '0', 'FAA_m': 1})
  cell = openpyxl.load_workbook(path).active.cell(2, 1)
  assert (cell.value, cell.data_type) == ('=1+1', 's')


def test_a_file_of_something_else_is_left_alone(tmp_path):
  path = tmp_path / 'results.xlsx'
  path.write_bytes(b'PK, but no archive')
  with pytest.raises(ValueError, match='results.xlsx is no .xlsx'):
    spreadsheet.append(str(path), {'seeds': '0'})
  assert path.read_bytes() == b'PK, but no archive'


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(OSError, match='file') as raised:
    spreadsheet.append(str(tmp_path / 'file/results.xlsx'), {'seeds': '0'})
  assert '\n' not in str(raised.value)
