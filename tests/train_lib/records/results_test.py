# SPDX-License-Identifier: Apache-2.0
"""Results: counts in, files and tables out, checked against three tasks."""

import csv
import json
import os

import numpy as np
import pytest

from promptcl.train_lib.records import report
from promptcl.train_lib.records import results as results_lib
from promptcl.train_lib.records import tables

Scores = results_lib.Scores
CONFIG = json.dumps({'seed': 42, 'continual': {'num_tasks': 3}})


def _three_tasks():
  """Batch: .8 | .6 .9 | .5 .75 .4; per sample 1 image less everywhere."""
  results = results_lib.Results(3, ('ab', 'cd', 'ef'), headline='batch')
  totals = (10, 20, 30)
  for task, counts in enumerate([[8], [6, 18], [5, 15, 12]]):
    results.record(task, {
        i: Scores(totals[i], {'batch': c, 'per_sample': c - 1},
                  loss=task + i / 4, prompt_counts=np.array([c, totals[i] - c]))
        for i, c in enumerate(counts)}, seconds=2. + task,
        images_per_second=100.)
  return results


def test_counts_become_accuracies():
  results = _three_tasks()
  nan = np.nan
  np.testing.assert_allclose(
      results.accuracies(), [[.8, nan, nan], [.6, .9, nan], [.5, .75, .4]])
  np.testing.assert_allclose(results.accuracies('per_sample')[2],
                             [.4, .7, 11 / 30])
  np.testing.assert_array_equal(
      results.correct['batch'], [[8, -1, -1], [6, 18, -1], [5, 15, 12]])
  np.testing.assert_array_equal(results.totals, [10, 20, 30])
  np.testing.assert_array_equal(results.prompt_counts[2],
                                [[5, 5], [15, 5], [12, 18]])
  assert results.finished


def test_summary_by_hand():
  summary = _three_tasks().summary()
  assert summary == pytest.approx({
      'last_acc': .55, 'avg_acc': .55, 'micro_last_acc': 32 / 60,
      'F1': .225, 'F2': .225, 'forgetting': .225, 'BWT': -.225,
      'backward': -.225, 'caa': (.8 + .75 + .55) / 3, 'learning_acc': .7})
  assert _three_tasks().summary('per_sample')['micro_last_acc'] == (
      pytest.approx(29 / 60))


def test_later_evaluation_of_a_task_replaces_the_earlier_one():
  results = _three_tasks()
  results.record(2, {0: Scores(10, {'batch': 9, 'per_sample': 9}, loss=.5)})
  np.testing.assert_array_equal(results.correct['batch'][2], [9, -1, -1])
  np.testing.assert_array_equal(results.loss[2], [.5, np.nan, np.nan])
  np.testing.assert_array_equal(results.prompt_counts[2], np.zeros((3, 2)))
  assert np.isnan(results.seconds[2])


@pytest.mark.parametrize('index, scores, message', [
    (0, Scores(11, {'batch': 3, 'per_sample': 3}, 0.),
     'ab: 11 images were scored, expected 10'),
    (0, Scores(10, {'batch': 11, 'per_sample': 3}, 0.),
     "ab: 11 of 10 images are correct with selection 'batch'"),
    (0, Scores(10, {'batch': -1, 'per_sample': 3}, 0.), '-1 of 10'),
    (0, Scores(10, {'batch': 3}, 0.),
     r"scored with \['batch'\], expected \['batch', 'per_sample'\]"),
    (3, Scores(10, {'batch': 3, 'per_sample': 3}, 0.), 'evaluation set 3 of 3'),
])
def test_impossible_scores_are_refused_and_change_nothing(
    index, scores, message):
  results = _three_tasks()
  before = results.arrays()
  good = {1: Scores(20, {'batch': 1, 'per_sample': 1}, 0.)}
  with pytest.raises(ValueError, match=message):
    results.record(2, good | {index: scores})
  _assert_same(results.arrays(), before)


def test_first_scores_must_agree_and_have_the_headline():
  fresh = results_lib.Results(2, ('a', 'b'), headline='batch')
  with pytest.raises(ValueError, match='expected .*batch'):
    fresh.record(0, {0: Scores(5, {'per_sample': 1}, 0.)})
  with pytest.raises(ValueError, match='b: scored with'):
    fresh.record(0, {0: Scores(5, {'batch': 1}, 0.),
                     1: Scores(5, {'batch': 1, 'per_sample': 1}, 0.)})
  with pytest.raises(ValueError, match='task 2 of 2'):
    fresh.record(2, {0: Scores(5, {'batch': 1}, 0.)})
  with pytest.raises(ValueError, match='0 images were scored'):
    fresh.record(0, {0: Scores(0, {'batch': 0}, 0.)})
  assert fresh.arrays().keys() == {
      'totals', 'loss', 'seconds', 'images_per_second'}


def test_extras_are_stored_and_written_with_the_rest(tmp_path):
  results = _three_tasks()
  results.extras = {'Acc@task': .5, 'ZS_routed': np.nan}
  again = results_lib.Results(3, ('ab', 'cd', 'ef'), headline='batch')
  again.extras = {'old': 1.}
  again.restore(results.arrays())
  assert again.extras == pytest.approx(results.extras, nan_ok=True)
  results.save(str(tmp_path), config_json=CONFIG)
  loaded = report.load(str(tmp_path))
  assert loaded['extras'] == {'Acc@task': .5, 'ZS_routed': None}
  again = results_lib.Results.from_report(loaded)
  assert again.extras == pytest.approx(results.extras, nan_ok=True)
  del loaded['extras']  # written before there were any
  assert not results_lib.Results.from_report(loaded).extras


def test_unknown_selection_and_wrong_number_of_sets():
  with pytest.raises(ValueError, match='only for .*per_sample'):
    _three_tasks().accuracies('oracle')
  with pytest.raises(ValueError, match='2 evaluation sets for 3 tasks'):
    results_lib.Results(3, ('a', 'b'), headline='batch')


def test_arrays_restore_exactly_and_are_copies():
  results = _three_tasks()
  other = results_lib.Results(3, ('ab', 'cd', 'ef'), headline='batch')
  arrays = results.arrays()
  other.restore(arrays)
  _assert_same(other.arrays(), results.arrays())
  arrays['correct:batch'][0, 0] = 0
  assert results.correct['batch'][0, 0] == other.correct['batch'][0, 0] == 8
  with pytest.raises(ValueError, match=r'\(3, 3\).*\(2, 2\)'):
    results_lib.Results(2, ('a', 'b'), headline='batch').restore(arrays)


def test_interrupted_run_continues_to_the_same_results():
  whole, second = _three_tasks(), results_lib.Results(
      3, ('ab', 'cd', 'ef'), headline='batch')
  first = _three_tasks()
  for counts in first.correct.values():
    counts[2] = -1
  first.loss[2] = np.nan
  assert first.last_task == 1 and not first.finished
  second.restore(first.arrays())
  second.record(2, {
      i: Scores(int(whole.totals[i]),
                {k: int(v[2, i]) for k, v in whole.correct.items()},
                loss=whole.loss[2, i], prompt_counts=whole.prompt_counts[2, i])
      for i in range(3)}, seconds=4., images_per_second=100.)
  _assert_same(second.arrays(), whole.arrays())


def test_results_json_holds_the_matrix_and_all_metrics(tmp_path):
  _three_tasks().save(str(tmp_path), config_json=CONFIG,
                      extra={'class_order': np.arange(6),
                             'weights_sha256': 'c0ffee'})
  loaded = json.loads((tmp_path / 'results.json').read_text())
  assert loaded['headline']['selection'] == 'batch'
  assert loaded['headline']['metrics']['forgetting'] == pytest.approx(.225)
  batch = loaded['selections']['batch']
  assert batch['correct'] == [[8, None, None], [6, 18, None], [5, 15, 12]]
  assert all(isinstance(c, int) for c in batch['correct'][2])
  assert batch['classes_competing'] == 'all'
  assert batch['metrics']['micro_acc@1'] == pytest.approx(.8)
  assert batch['metrics']['BWT-pairs'] == pytest.approx(
      (-.2 - .3 - .15) / 3)
  assert batch['metrics']['FWT'] is None
  assert loaded['eval_sets'][1] == {'name': 'cd', 'total': 20}
  assert loaded['tasks'][1] == pytest.approx({
      'task': 1, 'seconds': 3., 'images_per_second': 100., 'avg_acc': .75,
      'learning_acc': .85, 'forgetting': .2, 'backward': -.2})
  assert loaded['seed'] == 42 and loaded['class_order'] == [0, 1, 2, 3, 4, 5]
  assert loaded['config'] == json.loads(CONFIG) and loaded['finished'] is True
  assert {'python', 'jax', 'flax', 'numpy'} <= loaded['versions'].keys()


def test_task_incremental_scores_are_marked(tmp_path):
  results = results_lib.Results(1, ('a',), headline='batch')
  results.record(0, {0: Scores(4, {'batch': 1, 'batch_task_inc': 3}, 0.)})
  results.save(str(tmp_path), config_json='{}')
  selections = report.load(str(tmp_path))['selections']
  assert selections['batch']['classes_competing'] == 'all'
  assert selections['batch_task_inc']['classes_competing'] == 'own task'


def test_results_csv_has_a_row_per_evaluation(tmp_path):
  _three_tasks().save(str(tmp_path), config_json=CONFIG)
  with open(tmp_path / 'results.csv', newline='', encoding='utf-8') as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == 2 * 6
  assert rows[4] == {
      'task': '2', 'eval_set': '1', 'name': 'cd', 'selection': 'batch',
      'correct': '15', 'total': '20', 'accuracy': '0.75'}
  assert sorted(os.listdir(tmp_path)) == ['results.csv', 'results.json']


def test_load_gives_the_results_back(tmp_path):
  results = _three_tasks()
  results.save(str(tmp_path), config_json=CONFIG)
  loaded = results_lib.load(str(tmp_path))
  _assert_same(loaded.arrays(), results.arrays())
  assert loaded.table() == results.table()
  assert loaded.eval_set_names == results.eval_set_names


def test_unfinished_results_are_saved_too(tmp_path):
  results = results_lib.Results(2, ('a', 'b'), headline='batch')
  results.save(str(tmp_path), config_json=CONFIG)
  assert report.load(str(tmp_path))['headline']['metrics'] == {}
  results.record(0, {}, seconds=3.)
  results.record(0, {0: Scores(4, {'batch': 1}, float('inf'))})
  results.save(str(tmp_path), config_json=CONFIG)
  loaded = report.load(str(tmp_path))
  assert loaded['finished'] is False
  assert loaded['headline']['metrics']['last_acc'] == .25
  assert loaded['loss'] == [[None, None], [None, None]]


def test_missing_and_damaged_results(tmp_path):
  with pytest.raises(FileNotFoundError, match='no results yet'):
    report.load(str(tmp_path))
  (tmp_path / 'results.json').write_text('{"finished": tr')
  with pytest.raises(ValueError, match='results.json is not readable'):
    report.load(str(tmp_path))


def test_extra_must_not_replace_what_was_measured(tmp_path):
  with pytest.raises(ValueError, match='headline'):
    _three_tasks().save(str(tmp_path), config_json=CONFIG,
                        extra={'headline': 1})
  assert not os.listdir(tmp_path)


@pytest.mark.parametrize('stage', ['fsync', 'replace'])
def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch, stage):
  path = tmp_path / 'a.json'
  report.write_atomic(path, 'old')

  def no_space(*unused):
    raise OSError('no space left')
  monkeypatch.setattr(os, stage, no_space)
  with pytest.raises(OSError, match='no space'):
    report.write_atomic(path, 'new')
  assert os.listdir(tmp_path) == ['a.json'] and path.read_text() == 'old'


def test_json_keeps_matrix_rows_together():
  value = {'a': [[1, None], [2.5, 'x']], 'b': {}, 'c': [], 'd': [{'e': 1}]}
  text = report.to_json(value)
  assert json.loads(text) == value
  assert '    [1, null],\n    [2.5, "x"]\n' in text


def test_checksum_of_a_file(tmp_path):
  (tmp_path / 'w').write_bytes(b'abc')
  assert report.file_sha256(tmp_path / 'w').startswith('ba7816bf8f01cfea')


def test_tables_show_percent():
  table = _three_tasks().table().splitlines()
  assert [line.split() for line in table if line.startswith('batch *')] == [
      ['batch', '*', '55.00', '22.50', '22.50', '70.00', '53.33', '70.00',
       '-22.50']]
  assert table[-1].split() == ['3', 'ef', '40.00', '40.00', '55.00', '22.50',
                               '4.0', '100.0']
  assert table[-3].split()[:4] == ['1', 'ab', '80.00', '50.00']
  fresh = results_lib.Results(1, ('a',), headline='batch')
  assert fresh.table() == 'nothing has been evaluated yet'


def test_headline_metrics_come_first_in_the_table():
  header = _three_tasks().table(('BWT', 'last_acc', 'FWT')).splitlines()[3]
  assert header.split() == [
      'selection', 'BWT', 'last_acc', 'FWT', 'F2', 'F1', 'caa',
      'micro_last_acc', 'learning_acc']


def test_which_classes_competed_is_told(tmp_path):
  results = _three_tasks()
  for asked in ('all', 'seen'):
    entry = results.report(config_json=json.dumps({'eval_classes': asked}))
    assert {s['classes_competing'] for s in entry['selections'].values()} == {
        asked}


def test_table_of_a_single_evaluation_set():
  results = results_lib.Results(3, ('all',), headline='batch')
  results.record(0, {0: Scores(10, {'batch': 4}, 1.)})
  results.record(1, {}, seconds=1.)
  results.record(2, {0: Scores(10, {'batch': 7}, 1.)})
  # Task 1 was not scored: of 200 episodes, 20 are of interest.
  rows = [line.split()[:5] for line in results.table().splitlines()[-2:]]
  assert rows == [['1', 'all', '-', '-', '40.00'],
                  ['3', 'all', '-', '-', '70.00']]


def test_comparison_table_is_aligned():
  assert tables.comparison_table({
      'L2P': {'avg_acc': .831, 'forgetting': .05},
      'frozen head': {'avg_acc': 1.}}) == (
          '             avg_acc  forgetting\n'
          '-----------  -------  ----------\n'
          'L2P            83.10        5.00\n'
          'frozen head   100.00           -')


def _assert_same(a, b):
  assert a.keys() == b.keys()
  for name in a:
    assert a[name].dtype == b[name].dtype, name
    np.testing.assert_array_equal(a[name], b[name], err_msg=name)
