# SPDX-License-Identifier: Apache-2.0
"""What changes a protocol's fingerprint, and what must not."""

import shutil

import numpy as np
import pytest

from promptcl import input_pipeline
from promptcl.train_lib.records import fingerprint
from tests.helpers import fakes

PROVENANCE = dict(
    dataset='npz:/data/colours.npz', weights_sha256='ab' * 32,
    global_batch_size=8, classes_per_task=[2, 2, 2], train_images=120,
    test_images=42, label_counts='c0ffee', split_files=[])
VOTE = {'eval_selection': 'batch'}


def _settings(changes=None, **provenance):
  return fingerprint.settings(fakes.config(**(changes or {})),
                              {**PROVENANCE, **provenance})


def _digest(changes=None, **provenance):
  return fingerprint.digest(_settings(changes, **provenance))


@pytest.mark.parametrize('changes', [
    {'subsample_rate': 50}, {'continual.scenario': 'domain'},
    {'continual.rand_seed': 7}, {'continual.class_order': (1, 0, 2, 3, 4, 5)},
    {'reverse_task': True}, {'gaussian_schedule': True},
    {'transform': 'clean'}, {'augmentation': 'crop'}, {'input_size': 4},
    {'resize_size': 9}, {'input_range': 'minus_one_one'}, {'norm_01': False},
    {'model_name': 'ViT-Ti_16'}, {'eval_selection': 'per_sample'},
    {'prompt_choice': 'random'}, {'prompt_choice': 'oracle'},
    {'continual.eval_task_inc': True}, {'eval_classes': 'seen'},
    {'eval_last_only': True}, {'continual.eval_every_tasks': 2},
    {'eval_drop_remainder': True}, {'num_eval_steps': 3},
])
def test_settings_that_keep_numbers_apart(changes):
  assert _digest(changes) != _digest()


@pytest.mark.parametrize('provenance', [
    {'dataset': 'npz:/data/shapes.npz'}, {'weights_sha256': None},
    {'classes_per_task': [4, 2]}, {'train_images': 119}, {'test_images': 41},
    {'label_counts': 'decaf'}, {'split_files': ['0123']},
])
def test_data_and_weights_that_keep_numbers_apart(provenance):
  assert _digest(**provenance) != _digest()


@pytest.mark.parametrize('changes', [
    {'seed': 4}, {'learning_rate': 1.0}, {'num_epochs': 9},
    {'method': 'dualprompt', 'vit_classifier': 'token'}, {'optim': 'sgd'},
    {'prompt_pool_param.length': 5}, {'continual.train_mask': False},
    {'freeze_part': ()}, {'preset': 'jax_v2'}, {'data_threads': 3},
    {'headline_metrics': ('F2',)}, {'continual.order_rule': 'python'},
])
def test_what_a_table_compares_does_not_matter(changes):
  assert _digest(changes) == _digest()


@pytest.mark.parametrize('changes', [
    {'per_device_batch_size': 2}, {'eval_order': 'shuffled'}])
def test_who_shares_a_batch_matters_for_the_vote_alone(changes):
  per_image = {'eval_selection': 'per_sample'}
  assert _digest({**VOTE, **changes}) != _digest(VOTE)
  assert _digest({**per_image, **changes}) == _digest(per_image)


def test_batches_matter_where_they_decide_who_is_scored():
  dropped = {'eval_drop_remainder': True, 'eval_selection': 'per_sample'}
  assert _digest(dropped) != _digest(dropped, global_batch_size=16)
  assert _digest() == _digest(global_batch_size=16)


def test_the_place_of_a_file_does_not_matter():
  elsewhere = 'npz:/home/me/colours.npz'
  assert _digest(dataset=elsewhere) == _digest()
  sequence = _settings(dataset='cifar10,npz:a/b.npz,folder:c/d/')['dataset']
  assert sequence == 'cifar10,npz:b.npz,folder:d'


@pytest.mark.parametrize('changes, order', [
    ({}, 'ascending'),
    ({'continual.rand_seed': 1993, 'continual.order_rule': 'numpy_legacy'},
     'numpy_legacy, seed 1993'),
    ({'continual.rand_seed': 3, 'seed': 3}, 'numpy, seed of the run'),
    # CODA-Prompt draws no order for seed 0.
    ({'continual.rand_seed': -1, 'seed': 0, 'continual.order_rule': 'python'},
     'python, seed of the run'),
    ({'continual.rand_seed': -1, 'seed': 0}, 'ascending'),
    ({'continual.scenario': 'dataset', 'continual.rand_seed': 4},
     'by data set'),
])
def test_class_orders(changes, order):
  assert _settings(changes)['class_order'] == order


def test_orders_drawn_in_each_run_share_a_fingerprint():
  tied = [{'seed': s, 'continual.rand_seed': s} for s in (3, 4)]
  assert _digest(tied[0]) == _digest(tied[1])
  fixed = [{'seed': s, 'continual.rand_seed': 9} for s in (3, 4)]
  assert _digest(fixed[0]) == _digest(fixed[1]) != _digest(tied[0])


def test_a_gaussian_stream_is_told_by_its_rule():
  changes = {'gaussian_schedule': True, 'gaussian_mode': 'paper'}
  drawn, other = (_settings(changes, classes_per_task=drawn)
                  for drawn in ([1, 3, 2], [2, 2, 4]))
  assert drawn == other
  assert (drawn['scenario'], drawn['episodes']) == ('gaussian paper', 3)
  assert drawn['gaussian_steps'] == 5


def test_without_a_pool_nothing_is_chosen():
  plain = {'method': 'none', 'vit_classifier': 'token'}
  assert _settings(plain)['selection'] == 'none'
  assert _settings()['selection'] == 'batch'


def test_selections_of_one_run():
  voted = _settings()
  assert (voted['selection'], voted['vote_batch']) == ('batch', 1)
  alone = fingerprint.for_selection(voted, 'per_sample')
  assert alone == _settings({'eval_selection': 'per_sample'})
  known = fingerprint.for_selection(voted, 'batch_task_inc')
  assert known == {**voted, 'task_known': True}
  assert fingerprint.for_selection(voted, 'top5') == voted
  assert fingerprint.for_selection(known, 'batch') == voted
  assert fingerprint.for_selection(voted, 'until_own_task') == {
      **voted, 'eval_classes': 'until_own_task'}


def test_differences_name_both_values():
  a, b = _settings(), _settings({'transform': 'coda'}, train_images=7)
  assert fingerprint.differences(a, a) == {}
  assert fingerprint.differences(a, b) == {
      'transform': ('jax', 'coda'), 'train_images': (120, 7)}


def test_fine_tuning_fits_beside_any_selection():
  plain = _settings({'method': 'none', 'vit_classifier': 'token'})
  assert fingerprint.differences(plain, _settings()) == {}
  other = _settings({'eval_selection': 'per_sample'})
  assert fingerprint.differences(other, plain) == {}
  assert set(fingerprint.differences(other, _settings())) == set(
      fingerprint.VOTE_KEYS)


def _cut(config):
  stream = input_pipeline.build(config, global_batch_size=8)
  return fingerprint.cut(config, stream)


def test_the_cut_of_a_real_stream(tmp_path):
  config = fakes.config(tmp_path)
  cut = _cut(config)
  assert cut['classes_per_task'] == [2, 2, 2]
  assert (cut['train_images'], cut['test_images']) == (120, 42)
  # A drawn order and another place change nothing, half of the images do.
  assert _cut(fakes.changed(config, **{'continual.rand_seed': 5})) == cut
  copy = tmp_path / 'copy.npz'
  shutil.copy(tmp_path / 'data.npz', copy)
  assert _cut(fakes.changed(config, dataset=f'npz:{copy}')) == cut
  fewer = fakes.write_data(tmp_path / 'fewer.npz', test_per_class=6)
  fewer = _cut(fakes.changed(config, dataset=fewer))
  assert fewer['test_images'] == 36
  assert fewer['label_counts'] != cut['label_counts']


def test_split_files_count_by_content(tmp_path):
  config = fakes.config(tmp_path)
  stream = input_pipeline.build(config, global_batch_size=8)
  for name, text in (('a', 'x.jpg'), ('b', 'x.jpg'), ('c', 'y.jpg')):
    (tmp_path / name).write_text(text)
  sums = [fingerprint.cut(fakes.changed(
      config, split_files=(str(tmp_path / name),)), stream)['split_files']
          for name in 'abc']
  assert sums[0] == sums[1] != sums[2]


def test_digests_are_short_and_stable():
  assert fingerprint.digest({'b': [1], 'a': 'x'}) == fingerprint.digest(
      {'a': 'x', 'b': [1]})
  assert len(_digest()) == 16 and int(_digest(), 16) >= 0


def test_images_in_several_tasks_count_once():
  lists = [np.array([0, 3]), np.array([3, 5])]
  assert fingerprint._distinct(lists) == 3  # pylint: disable=protected-access
