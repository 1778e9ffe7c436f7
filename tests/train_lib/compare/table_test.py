# SPDX-License-Identifier: Apache-2.0
"""Tables of runs: means worked out by hand, and what is refused."""

import os
import subprocess
import sys

import numpy as np
import openpyxl
import pytest

from promptcl.train_lib.compare import runs as compare_runs
from promptcl.train_lib.compare import table as compare
from promptcl.train_lib.records import fingerprint
from promptcl.train_lib.records.results import Results
from promptcl.train_lib.records.results import Scores
from tests.helpers import fakes

PROVENANCE = dict(
    dataset='npz:colours.npz', weights_sha256='ab' * 32, global_batch_size=8,
    classes_per_task=[2, 2], train_images=80, test_images=20,
    label_counts='c0ffee', split_files=[])
PLAIN = {'method': 'none', 'vit_classifier': 'token'}


@pytest.fixture
def write(tmp_path):
  """Writes a run of two tasks of ten images; gives its folder.

  `last` images of the second and, after both tasks, of the first are right;
  per-image selection finds one image less.
  """
  def write_run(name, last, *, finished=True, provenance=None, extras=None,
                **changes):
    config = fakes.config(**changes)
    origin = {**PROVENANCE, **(provenance or {})}
    protocol = fingerprint.settings(config, origin)
    headline = 'batch' if protocol['selection'] == 'batch' else 'per_sample'
    results = Results(2, ['task_1', 'task_2'], headline)
    results.extras = extras or {}

    def scores(right):
      correct = {'per_sample': right - 1, f'{headline}_task_inc': right + 1}
      if headline == 'batch':
        correct['batch'] = right
      return Scores(total=10, correct=correct, loss=0.5)

    results.record(0, {0: scores(9)})
    if finished:
      results.record(1, {0: scores(last), 1: scores(last)})
    folder = tmp_path / name
    folder.mkdir()
    results.save(str(folder), config_json=config.to_json_best_effort(), extra={
        'global_batch_size': origin['global_batch_size'],
        'protocol': protocol, 'fingerprint': fingerprint.digest(protocol)})
    return str(folder)
  return write_run


@pytest.fixture
def table(capsys):
  """Runs the command, which must succeed; rows of cells, header first."""
  def run(*arguments):
    assert compare.main(list(arguments)) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith('run '))
    end = lines.index('', start)
    return [[cell.strip() for cell in line.split('  ') if cell.strip()]
            for line in lines[start:end] if not line.startswith('---')], text
  return run


@pytest.fixture
def complaint(capsys):
  """Runs the command, which must fail; its one line."""
  def run(*arguments):
    assert compare.main(list(arguments)) == 1
    captured = capsys.readouterr()
    assert not captured.out
    lines = captured.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith('error: ')
    return lines[0]
  return run


def test_mean_and_sample_deviation_by_hand(write, table):
  folders = [write('a', 5, seed=1), write('b', 7, seed=2)]
  # last_acc .5 and .7: deviation sqrt(.02) = .1414.  F1: .9 - .5 and .9 - .7.
  (header, row), text = table(*folders)
  assert header == ['run', 'last_acc', 'F1', 'runs', 'seeds']
  assert row == ['l2p', '60.00 ± 14.14', '30.00 ± 14.14', '2', '1, 2']
  assert 'Class order: ascending. Prompts chosen: batch.' in text


def test_metrics_that_are_asked_for(write, table):
  folder = write('a', 5, seed=1)
  # caa: (.9 + .5) / 2; avg_acc@0: .9
  (header, row), _ = table(folder, '--metrics', 'caa,avg_acc@0,FWT')
  assert header[1:4] == ['caa', 'avg_acc@0', 'FWT']
  assert row[1:4] == ['70.00', '90.00', '-']


def test_default_columns_are_those_the_runs_ask_for(write, table):
  folders = [write('a', 5, headline_metrics=('micro_caa',)),
             write('b', 6, headline_metrics=('F2', 'micro_caa'), optim='sgd')]
  assert table(*folders)[0][0][1:-2] == ['micro_caa', 'F2']


def test_rows_are_named_by_what_differs(write, table):
  folders = [
      write('a', 5, seed=1), write('b', 6, seed=1, learning_rate=0.01),
      write('c', 7, seed=2, learning_rate=0.01),
      write('d', 8, **fakes.DUALPROMPT)]
  rows = table(*folders)[0][1:]
  assert [(row[0], row[1], row[-1]) for row in rows] == [
      ('l2p learning_rate=0.3', '50.00', '1'),
      ('l2p learning_rate=0.01', '65.00 ± 7.07', '1, 2'),
      ('dualprompt', '80.00', '3')]


def test_batch_size_and_devices_make_rows_of_their_own(write, table):
  alone = {'eval_selection': 'per_sample'}
  folders = [write('a', 5, seed=1, **alone),
             write('b', 6, seed=2, provenance={'global_batch_size': 16},
                   **alone)]
  names = [row[0] for row in table(*folders)[0][1:]]
  assert names == ['l2p global_batch_size=8', 'l2p global_batch_size=16']


def test_places_of_files_do_not_split_a_row(write, table):
  folders = [write('a', 5, seed=1, init_checkpoint='/x/vit.npz'),
             write('b', 6, seed=2, init_checkpoint='/y/vit.npz', data_threads=4,
                   dataset='npz:/z/colours.npz')]
  assert len(table(*folders)[0]) == 2


def test_different_protocols_are_refused(write, complaint):
  a = write('a', 5)
  b = write('b', 6, transform='coda')
  line = complaint(a, b)
  for word in (a, b, "transform is 'jax' and 'coda'", '--mix'):
    assert word in line
  assert 'selection' not in line
  assert "'abab" not in complaint(
      a, write('c', 6, provenance={'train_images': 8}))


def test_mixed_protocols_have_a_column(write, table):
  folders = [write('a', 5), write('b', 6, transform='coda')]
  (header, *rows), text = table(*folders, '--mix')
  assert header[-1] == 'protocol'
  assert len({row[-1] for row in rows}) == 2
  assert [row[0] for row in rows] == ['l2p transform=jax', 'l2p transform=coda']
  assert f"Protocol {rows[1][-1]}: transform 'coda'." in text


def test_weights_alone_tell_mixed_rows_apart(write, table):
  folders = [write('a', 5), write('b', 6, provenance={'weights_sha256': 'cd'})]
  names = [row[0] for row in table(*folders, '--mix')[0][1:]]
  assert names == ['l2p weights_sha256=' + 'ab' * 32, 'l2p weights_sha256=cd']


def test_selections_that_differ_and_one_that_both_have(
    write, complaint, table):
  voted = write('a', 5)
  alone = write('b', 6, eval_selection='per_sample')
  line = complaint(voted, alone)
  assert "selection is 'batch' and 'per_sample'" in line
  assert '--selection' in line
  rows = table(voted, alone, '--selection', 'per_sample')[0][1:]
  assert [row[1] for row in rows] == ['40.00', '50.00']
  assert 'per_sample' in complaint(alone, '--selection', 'batch')


def test_fine_tuning_stands_beside_prompts(write, table):
  folders = [write('a', 5), write('b', 4, **PLAIN)]
  assert [row[:2] for row in table(*folders)[0][1:]] == [
      ['l2p', '50.00'], ['none', '30.00']]
  assert len(table(*folders, '--selection', 'batch')[0]) == 3


def test_orders_drawn_in_each_run_are_averaged(write, table):
  folders = [write(str(s), 5 + s, seed=s, **{'continual.rand_seed': s})
             for s in (1, 2, 3)]
  (_, row), text = table(*folders)
  assert row[1] == '70.00 ± 10.00'
  assert 'Class order: numpy, seed of the run.' in text


def test_a_fixed_order_may_be_that_of_one_seed(write, table, complaint):
  """PILOT's order is 1993, and so may be the seed of one of the runs."""
  order = {'continual.rand_seed': 1993}
  folders = [write('a', 5, seed=1993, **order), write('b', 7, seed=1, **order)]
  (_, row), text = table(*folders)
  assert row[-1] == '1, 1993' and 'numpy, seed 1993' in text
  other = write('c', 6, seed=2, **{'continual.rand_seed': 2})
  assert 'class_order' in complaint(*folders, other)


def test_paired_differences_by_hand(write, table, complaint, tmp_path):
  plain = [write(f'plain{s}', last, seed=s)
           for s, last in ((1, 4), (2, 6), (3, 8))]
  other = [write(f'other{s}', last, seed=s, learning_rate=0.01)
           for s, last in ((3, 9), (1, 6), (4, 2))]
  csv = tmp_path / 'paired.csv'
  rows, text = table(*plain, *other, '--paired', '--metrics',
                     'last_acc,F1,task_inc:last_acc', f'--csv={csv}')
  # Seeds 1 and 3 are in both: differences .2 and .1, deviation .1 / sqrt(2);
  # F1 is .9 - last_acc: from .5 to .3 and from .1 to 0.
  assert rows[-1] == [
      'l2p learning_rate=0.01 - l2p learning_rate=0.3', '+15.00 ± 7.07',
      '-15.00 ± 7.07', '+15.00 ± 7.07', '2', '1, 3']
  # The rows above are of all their own seeds.
  assert rows[1][:2] == ['l2p learning_rate=0.3', '60.00 ± 20.00']
  assert rows[2][3:] == ['66.67 ± 35.12', '3', '1, 3, 4']
  assert 'equal seeds' in text
  name, count, _, mean, *_ = csv.read_text().splitlines()[-1].split(',')
  assert (name, count) == (rows[-1][0], '2')
  assert float(mean) == pytest.approx(.15)
  assert 'more than the seed' in complaint(*plain, '--paired')
  assert 'seeds are 4 and 2' in complaint(plain[1], other[2], '--paired')


def test_unfinished_runs_are_named_and_left_out(write, table, complaint):
  folders = [write('a', 5, seed=1), write('b', 7, seed=2, finished=False)]
  (_, row), text = table(*folders)
  assert row[-2:] == ['1', '1']
  assert f'left out, not finished: {folders[1]}' in text
  assert 'none of the runs is finished' in complaint(folders[1])


def test_what_cannot_be_compared(write, complaint, tmp_path):
  a = write('a', 5)
  assert 'no results yet' in complaint(a, str(tmp_path / 'nowhere'))
  assert 'same run with seed 3' in complaint(a, write('b', 6))
  assert "'F9', have last_acc" in complaint(a, '--metrics', 'F9')
  assert "'oracle', have per_sample, batch" in complaint(
      a, '--selection', 'oracle')
  assert 'nowhere' in complaint(a, '--csv', str(tmp_path / 'nowhere/x.csv'))


def test_results_of_an_older_version(tmp_path, complaint):
  results = Results(1, ['all'], 'per_sample')
  results.save(str(tmp_path), config_json='{}')
  assert 'no protocol fingerprint' in complaint(str(tmp_path))


def test_files(write, table, tmp_path):
  folders = [write('a', 5, seed=1), write('b', 7, seed=2),
             write('c', 8, **PLAIN)]
  paths = {kind: tmp_path / f'table.{kind}'
           for kind in ('csv', 'markdown', 'latex')}
  table(*folders, '--metrics', 'micro_last_acc,FWT',
        *(f'--{kind}={path}' for kind, path in paths.items()))
  header, l2p, none = paths['csv'].read_text().splitlines()
  assert header == ('run,runs,seeds,micro_last_acc,micro_last_acc deviation,'
                    'FWT,FWT deviation')
  cells = l2p.split(',')
  assert cells[:3] == ['l2p', '2', '1 2'] and cells[5:] == ['', '']
  assert np.float64(cells[3]) == pytest.approx(.6)
  assert np.float64(cells[4]) == pytest.approx(.02 ** .5)
  assert none == 'none,1,3,0.7,,,'
  assert paths['markdown'].read_text() == (
      '| run | micro_last_acc | FWT | runs | seeds |\n'
      '| --- | ---: | ---: | ---: | ---: |\n'
      '| l2p | 60.00 ± 14.14 | - | 2 | 1, 2 |\n'
      '| none | 70.00 | - | 1 | 3 |\n')
  assert paths['latex'].read_text() == (
      '\\begin{tabular}{lrrrr}\n\\hline\n'
      'run & micro\\_last\\_acc & FWT & runs & seeds \\\\\n\\hline\n'
      'l2p & 60.00 $\\pm$ 14.14 & - & 2 & 1, 2 \\\\\n'
      'none & 70.00 & - & 1 & 3 \\\\\n\\hline\n\\end{tabular}\n')


def test_a_reader_may_leave_early(write):
  unread, pipe = os.pipe()
  os.close(unread)
  ended = subprocess.run(
      [sys.executable, '-m', 'train_lib.compare', write('a', 5)], stdout=pipe,
      stderr=subprocess.PIPE, text=True, check=False)
  os.close(pipe)
  assert ended.stderr == ''


def test_a_row_of_a_spreadsheet(write, table, complaint, tmp_path):
  order = {s: {'seed': s, 'continual.rand_seed': s} for s in (1, 2)}
  folders = [write('a', 5, extras={'ZS_before': .5, 'ZS_routed': .4},
                   **order[1]),
             write('b', 7, extras={'ZS_before': .7, 'ZS_routed': .5},
                   **order[2])]
  path = tmp_path / 'output' / 'results.xlsx'
  for _ in range(2):
    table(*folders, f'--xlsx={path}')
  header, *rows = openpyxl.load_workbook(path).active.values
  assert len(rows) == 2 and rows[0] == rows[1]
  found = dict(zip(header, rows[0], strict=True))
  # last_acc .5 and .7, caa (.9 + last) / 2, F2 .9 - last.
  assert {k: v for k, v in found.items() if k[:3] in ('FAA', 'CAA', 'FFM')} == (
      pytest.approx({'FAA_m': 60, 'FAA_s': 10, 'CAA_m': 75, 'CAA_s': 5,
                     'FFM_m': 30, 'FFM_s': 10}))
  assert (found['ZS_before'], found['ZS_routed'], found['dZS']) == (
      pytest.approx((60, 45, -15)))
  assert found['AccTask_m'] is None
  assert found['seeds'] == found['continual.rand_seed'] == '1, 2'
  other = write('c', 7, **{**order[2], 'optim': 'sgd'})
  csv = tmp_path / 'x.csv'
  assert 'these are 2 kinds: l2p optim=adam; l2p optim=sgd' in complaint(
      *folders, other, f'--xlsx={path}', f'--csv={csv}')
  assert not csv.exists()
  path.write_text('no zip')
  assert 'no .xlsx spreadsheet' in complaint(*folders, f'--xlsx={path}')


def test_keys_that_do_not_matter_exist():
  flat = dict(compare_runs._flat(fakes.config().to_dict()))  # pylint: disable=protected-access
  # init_sha256 and the like: a typing error here would split rows in silence.
  assert set(compare_runs._NO_MATTER) <= set(flat)  # pylint: disable=protected-access
