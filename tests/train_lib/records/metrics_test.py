# SPDX-License-Identifier: Apache-2.0
"""Metrics of an accuracy matrix that was worked out by hand."""

import json
import os
import pathlib

import numpy as np
import pytest

from promptcl.train_lib.records import metrics

NAN = np.nan
ACCURACIES = np.array([[.80, NAN, NAN, NAN],
                       [.60, .90, NAN, NAN],
                       [.90, .50, .40, NAN],
                       [.65, .60, .55, .30]])
TOTALS = np.array([10, 30, 20, 40])
BY_HAND = {
    'avg_acc@0': .8, 'avg_acc@1': .75, 'avg_acc@2': .6, 'avg_acc@3': .525,
    'last_acc': .525, 'caa': 2.675 / 4, 'best_acc': .8,
    'micro_acc@0': .8, 'micro_acc@1': 33 / 40, 'micro_acc@2': 32 / 60,
    'micro_acc@3': .475, 'micro_last_acc': .475, 'micro_best_acc': .825,
    'micro_caa': (.8 + 33 / 40 + 32 / 60 + .475) / 4,
    'learning_acc': .6,
    'F1': (.25 + .30 + 0) / 3,
    'F2': (.25 + .30 - .15) / 3,
    'F3': (.20 + (-.30 + .40) / 2 + (.25 - .10 - .15) / 3) / 3,
    'F4': (.15 + .30) / 3,
    'F5': (.15 + .30 - .15) / 3,
    'BWT': (-.15 - .30 + .15) / 3,
    'BWT-pairs': (-.20 + .10 - .40 - .15 - .30 + .15) / 6,
    'BWT-LibC': (.10 - .15 - .30) / 6,
    'FWT': NAN,
}
PARITY = pathlib.Path(
    os.environ.get('SHARED_DIR',
                   pathlib.Path(__file__).parents[3] / '../shared')
) / 'parity/official_l2p/continual_metrics.npz'


def test_every_metric_by_hand():
  values = metrics.all_metrics(ACCURACIES, TOTALS)
  assert values.keys() == BY_HAND.keys()
  for name, expected in BY_HAND.items():
    assert values[name] == pytest.approx(expected, abs=1e-12, nan_ok=True), name


def test_the_three_of_vq_prompt_by_hand():
  """FAA, CAA and FFM are last_acc, caa and F2."""
  values = metrics.all_metrics(np.array([
      [.90, NAN, NAN], [.70, .80, NAN], [.60, .90, .50]]), np.ones(3))
  assert values['last_acc'] == pytest.approx(2 / 3)
  assert values['caa'] == pytest.approx((.9 + .75 + 2 / 3) / 3)
  # The largest before the last task: .9 and .8, although .9 came later.
  assert values['F2'] == pytest.approx(((.9 - .6) + (.8 - .9)) / 2)


def test_names_are_the_ids_after_the_last_task():
  assert set(metrics.NAMES) == {name for name in BY_HAND if '@' not in name}


def test_no_two_metrics_share_a_value_here():
  # Otherwise a swapped pair of ids would go unnoticed above.
  final = {k: v for k, v in BY_HAND.items() if '@' not in k}
  assert len({round(v, 9) for v in final.values()}) == len(final)


def test_coming_tasks_count_for_forward_transfer_only():
  full = np.where(np.isnan(ACCURACIES), .99, ACCURACIES)
  full[0, 1], full[1, 2], full[2, 3] = .2, .4, .3
  values = metrics.all_metrics(full, TOTALS,
                               random_accuracies=np.array([.9, .1, .1, .1]))
  assert values.pop('FWT') == pytest.approx((.1 + .3 + .2) / 3)
  assert values == pytest.approx({k: v for k, v in BY_HAND.items()
                                  if k != 'FWT'})


def test_coming_tasks_in_an_unfinished_run():
  full = np.where(np.isnan(ACCURACIES), .99, ACCURACIES)
  assert metrics.average_accuracy(full[:2]) == pytest.approx(.75)
  assert metrics.micro_accuracy(full[:2], TOTALS) == pytest.approx(33 / 40)
  assert metrics.task_metrics(full, 2) == metrics.task_metrics(ACCURACIES, 2)
  full[2:] = NAN
  values = metrics.all_metrics(full, TOTALS,
                               random_accuracies=np.array([.9, .1, .5, .5]))
  assert values['last_acc'] == pytest.approx(.75)
  assert values['FWT'] == pytest.approx(.89)


def test_unfinished_run_is_judged_after_its_last_task():
  unfinished = ACCURACIES.copy()
  unfinished[3:] = NAN
  values = metrics.all_metrics(unfinished, TOTALS)
  assert values == pytest.approx(
      metrics.all_metrics(ACCURACIES[:3, :3], TOTALS[:3]), nan_ok=True)
  assert values['last_acc'] == pytest.approx(.6)
  assert values['F1'] == pytest.approx((0 + .4) / 2)
  assert 'avg_acc@3' not in values


def test_one_task_has_no_forgetting():
  values = metrics.all_metrics(ACCURACIES[:1, :1], TOTALS[:1])
  for name in ('last_acc', 'micro_caa', 'learning_acc'):
    assert values[name] == .8
  for name in ('F1', 'F2', 'F3', 'F4', 'F5', 'BWT', 'BWT-pairs', 'BWT-LibC'):
    assert np.isnan(values[name]), name


def test_single_evaluation_set_with_tasks_left_out():
  accuracies = np.array([[.2], [NAN], [.6], [NAN]])
  values = metrics.all_metrics(accuracies, np.array([7]))
  assert values['avg_acc@0'] == .2 and values['micro_acc@2'] == .6
  assert 'avg_acc@1' not in values
  assert values['last_acc'] == .6 and values['caa'] == pytest.approx(.4)
  assert np.isnan(values['F1']) and np.isnan(values['learning_acc'])


def test_only_the_last_task_was_evaluated():
  last_only = ACCURACIES.copy()
  last_only[:3] = NAN
  values = metrics.all_metrics(last_only, TOTALS)
  assert values['last_acc'] == values['caa'] == pytest.approx(.525)
  for name in ('F1', 'F2', 'F3', 'F4', 'F5', 'BWT', 'learning_acc'):
    assert np.isnan(values[name]), name
  tags = metrics.task_metrics(last_only, 3)
  assert tags.pop('avg_acc') == pytest.approx(.525)
  assert np.isnan(list(tags.values())).all() and len(tags) == 3


def test_missing_evaluation_is_not_hidden():
  holey = ACCURACIES.copy()
  holey[3, 1] = NAN
  assert np.isnan(metrics.average_accuracy(holey))
  assert np.isnan(metrics.forgetting(holey))


@pytest.mark.parametrize('accuracies, message', [
    (np.full((2, 2), NAN), 'nothing has been evaluated'),
    (np.ones((4, 3)), '3 evaluation sets for 4 tasks'),
])
def test_impossible_matrices(accuracies, message):
  with pytest.raises(ValueError, match=message):
    metrics.all_metrics(accuracies, TOTALS[:accuracies.shape[1]])


def test_square_metrics_refuse_a_single_set():
  with pytest.raises(ValueError, match='one evaluation set per task'):
    metrics.forgetting(np.array([[.2], [.3]]))


def test_tags_of_the_original_by_hand():
  assert metrics.task_metrics(ACCURACIES, 0) == {
      'avg_acc': .8, 'learning_acc': .8}
  assert metrics.task_metrics(ACCURACIES, 2) == pytest.approx({
      'avg_acc': .6, 'learning_acc': .7, 'forgetting': (0 + .4) / 2,
      'backward': (.1 - .4) / 2})


def test_tags_of_a_task_without_evaluation():
  unfinished = ACCURACIES.copy()
  unfinished[3] = NAN
  with pytest.raises(ValueError, match='task 3 has not been evaluated'):
    metrics.task_metrics(unfinished, 3)


def test_tags_of_a_single_set_average_over_rows_of_zeros():
  accuracies = np.array([[.2], [.6], [.3]])
  assert metrics.task_metrics(accuracies, 2) == pytest.approx({
      'avg_acc': .3, 'learning_acc': .2 / 3, 'forgetting': .3 / 2,
      'backward': .1 / 2})


def _official_cases():
  if not PARITY.is_file():
    return []
  with np.load(PARITY, allow_pickle=False) as file:
    arrays = dict(file)
  cases = json.loads(str(arrays.pop('meta')))['cases']
  return [(name, case['single_eval_set'],
           {k.removeprefix(name + '/'): v for k, v in arrays.items()
            if k.startswith(name + '/')}) for name, case in cases.items()]


@pytest.mark.skipif(not PARITY.is_file(), reason=f'{PARITY} is not here')
def test_tags_match_the_official_numbers():
  for name, single, case in _official_cases():
    ours = case['accuracy'].T.astype(np.float64)  # theirs is [set, task]
    ours = ours[:, :1] if single else np.where(
        np.triu(np.ones_like(ours), k=1), NAN, ours)
    for task in range(len(ours)):
      values = metrics.task_metrics(ours, task)
      for tag in ('avg_acc', 'learning_acc', 'forgetting', 'backward'):
        assert values.get(tag, NAN) == pytest.approx(
            case[tag][task], abs=1e-6, nan_ok=True), (name, task, tag)
