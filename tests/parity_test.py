# SPDX-License-Identifier: Apache-2.0
"""Every recorded file of the original, and that a wrong number is noticed.

Those of its ports are in parity_ports_test.py.
"""

import json

import numpy as np
import pytest

from tests.parity import __main__ as command
from tests.parity import fixture as fixture_lib
from tests.parity import kinds
from tests.parity import recordings
from tests.parity import report as report_lib
from tests.parity import tampering
from tests.parity.tolerances import Tolerance

pytestmark = pytest.mark.slow

finished = recordings.finished(recordings.OFFICIAL)


def test_recorded_numbers(finished):
  _, report = finished
  assert report.passed, '\n'.join(report.failures)


def test_each_number_counts(finished):
  assert not tampering.unnoticed(*finished)


def _metrics_file(path, *, tamper=0.0, **more):
  """A hand-made file of metrics: two tasks, the first is half forgotten."""
  meta = {'cases': {'hand': {'single_eval_set': False}}}
  nan = float('nan')
  arrays = {
      'accuracy': [[0.8, 0.4], [0.0, 0.6]],
      'acc_matrix': [[0.8, 0.4], [0.0, 0.6]],
      'avg_acc': [0.8, 0.5 + tamper], 'learning_acc': [0.8, 0.7],
      'forgetting': [nan, 0.4], 'backward': [nan, -0.4], **more}
  np.savez(path, meta=np.array(json.dumps(meta)), **{
      f'hand/{name}': np.float32(value) for name, value in arrays.items()})
  return str(path)


@pytest.mark.parametrize('changes, failing', [
    ({}, None),
    ({'tamper': 1e-5}, 'hand/avg_acc'),
    ({'forgetting': [0.0, 0.4]}, 'hand/forgetting'),  # NaN is told from 0
    ({'backward': [-0.4]}, 'hand/backward'),  # another shape
    ({'surprise': [1.0]}, 'hand/surprise'),  # nothing compares it
])
def test_wrong_number_fails(tmp_path, capsys, changes, failing):
  path = _metrics_file(tmp_path / 'metrics.npz', **changes)
  assert command.main([path]) == (1 if failing else 0)
  output = capsys.readouterr().out
  failed = [line.split()[1] for line in output.splitlines()
            if line.startswith('FAIL') and line.split()[1] != 'metrics.npz']
  assert failed == ([failing] if failing else [])
  assert ('NOT ALL PASS' in output) == bool(failing)


@pytest.mark.parametrize('name, array', [
    ('lr_schedule', 'learning_rate'), ('gaussian_schedule', 'small/peaks'),
    ('preprocessing', 'tall_up/resized_uint8'), ('clip_tokens', 'free'),
    ('vq_prompt_rebalance', 'iteration7/weight')])
def test_tampered_file_fails(tmp_path, name, array):
  path = next((path for path in recordings.OFFICIAL + recordings.PORTS
               if path.stem == name), None)
  if path is None:
    pytest.skip(f'{name} is not here')
  with np.load(path) as file:
    arrays = dict(file)
  arrays[array] = tampering.changed(array, arrays[array])
  np.savez(tmp_path / 'tampered.npz', **arrays)
  report = kinds.run(fixture_lib.Fixture(tmp_path / 'tampered.npz'), brief=True)
  assert len(report.failures) == (3 if name == 'lr_schedule' else 1)
  group = array.split('/')[0]
  assert all(group in line for line in report.failures)


def _report_of_two(fixture):
  """Compares `c/same` and the products of `c/rows`; others only seemingly."""
  report = report_lib.Report('two', brief=True)
  rows = fixture['c/rows']
  report.compare('same', np.float32([1.0, 2.0]), fixture['c/same'])
  report.compare('rows', rows @ rows.T, rows, through=lambda x: x @ x.T)
  report.compare('read', [4.0], fixture['c/read'].copy())
  report.compare('itself', fixture['c/itself'][:1], fixture['c/itself'])
  return report


def test_number_that_is_not_compared_is_found(tmp_path):
  arrays = {'c/same': [1.0, 2.0], 'c/rows': [[3.0], [4.0]], 'c/read': [4.0],
            'c/itself': [7.0], 'c/acc_matrix': [[5.0]], 'c/none': [],
            'params/leaf': [6.0]}
  np.savez(tmp_path / 'two.npz', meta=np.array('{}'), **{
      name: np.float32(value) for name, value in arrays.items()})
  fixture = fixture_lib.Fixture(tmp_path / 'two.npz')
  report = _report_of_two(fixture)
  assert report.passed
  assert tampering.unnoticed(fixture, report) == [
      'c/read', 'c/itself', 'c/acc_matrix']
  assert fixture['c/same'].tolist() == [1.0, 2.0]  # as it was


def test_one_bad_file_does_not_stop_the_others(tmp_path, capsys):
  good = _metrics_file(tmp_path / 'metrics.npz')
  other = tmp_path / 'port.npz'
  np.savez(other, meta=np.array(json.dumps({'originals': ['someone/port']})))
  broken = tmp_path / 'broken.npz'
  broken.write_bytes(b'no archive')
  files = [str(broken), str(other), str(tmp_path / 'absent.npz'), good]
  assert command.main([*files, '--brief']) == 1
  output = capsys.readouterr().out
  assert 'numbers of another code (someone/port)' in output
  assert output.count('ERROR') == 3 and 'PASS  metrics.npz' in output


@pytest.mark.parametrize('got, want, tolerance, passed', [
    ([1.0, 2.0], [1.0, 2.1], Tolerance(absolute=0.2), True),
    ([1.0, 2.0], [1.0, 2.1], Tolerance(relative=0.01), False),
    ([0.0, 100.0], [0.5, 100.0], Tolerance(of_max=0.01), True),
    ([np.nan, 1.0], [np.nan, 1.0], Tolerance(), True),
    ([np.nan, 1.0], [0.0, 1.0], Tolerance(absolute=9.0), False),
    ([np.inf], [-np.inf], Tolerance(absolute=9.0), False),
    ([[1.0]], [1.0], Tolerance(absolute=9.0), False),
])
def test_difference_by_hand(got, want, tolerance, passed):
  assert report_lib.difference(got, want, tolerance).passed == passed


def test_trees_must_have_the_same_leaves():
  report = report_lib.Report('trees', brief=True)
  report.compare_tree('same', {'a': 1.0}, {'a': 1.0})
  report.compare_tree('missing', {}, {'a': 1.0})
  report.compare_tree('extra', {'a': 1.0, 'b': 2.0}, {'a': 1.0})
  assert len(report.failures) == 2 and not report.passed


def test_nothing_compared_is_no_pass():
  assert not report_lib.Report('empty', brief=True).passed
