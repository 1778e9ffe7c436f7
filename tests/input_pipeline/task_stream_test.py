# Copyright 2026 The JAX Continual Prompting Authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Class orders, tasks and the Gaussian schedule."""

import json

import jax
import numpy as np
import pytest

from input_pipeline import datasets
from input_pipeline import task_stream


@pytest.fixture
def split(make_config):
  """(tasks, eval_sets) of the tiny data set under some settings."""
  def make(**changes):
    config = make_config(**changes)
    return task_stream.class_incremental(config, datasets.load(config))
  return make


class TestClassOrder:

  def test_ascending(self, make_config):
    order = task_stream.class_order(make_config(), 6)
    np.testing.assert_array_equal(order, range(6))

  def test_seeded(self, make_config):
    config = make_config(**{'continual.rand_seed': 3})
    order = task_stream.class_order(config, 6)
    np.testing.assert_array_equal(
        order, np.random.default_rng(3).permutation(6))
    np.testing.assert_array_equal(order, task_stream.class_order(config, 6))
    assert sorted(order) == list(range(6)) and list(order) != list(range(6))

  def test_reversed_by_task(self, make_config):
    order = task_stream.class_order(make_config(reverse_task=True), 6)
    np.testing.assert_array_equal(order, [4, 5, 2, 3, 0, 1])

  @pytest.mark.parametrize('tasks, width', [(4, 2), (2, 2), (0, 6), (6, -1)])
  def test_classes_do_not_divide(self, make_config, tasks, width):
    config = make_config(**{'continual.num_tasks': tasks,
                            'continual.num_classes_per_task': width})
    with pytest.raises(ValueError, match='6 classes of .* do not divide'):
      task_stream.class_order(config, 6)


class TestClassIncremental:

  @pytest.mark.parametrize('seed', [-1, 5])
  def test_indices_and_masks(self, split, arrays, seed):
    tasks, eval_sets = split(**{'continual.rand_seed': seed})
    order = (np.arange(6) if seed < 0
             else np.random.default_rng(seed).permutation(6))
    for t, (task, eval_set) in enumerate(zip(tasks, eval_sets, strict=True)):
      assert task.classes == tuple(order[2 * t:2 * t + 2])
      np.testing.assert_array_equal(
          np.flatnonzero(task.class_mask), [2 * t, 2 * t + 1])
      np.testing.assert_array_equal(eval_set.class_mask, task.class_mask)
      for rows, split_name, size in (
          (task.train_indices, 'train', 10), (eval_set.indices, 'test', 8)):
        labels = arrays[f'{split_name}_labels']
        expected = [i for i, c in enumerate(labels) if c in task.classes]
        np.testing.assert_array_equal(rows, expected)
        assert len(rows) == size
      assert (task.num_examples, eval_set.num_examples) == (10, 8)

  def test_each_task_is_followed_by_all_sets_so_far(self, split):
    tasks, eval_sets = split()
    assert [t.eval_sets for t in tasks] == [(0,), (0, 1), (0, 1, 2)]
    assert [t.index for t in tasks] == [e.index for e in eval_sets] == [0, 1, 2]
    assert [e.name for e in eval_sets] == ['task_1', 'task_2', 'task_3']

  def test_reversed(self, split):
    tasks, _ = split(reverse_task=True)
    assert [t.classes for t in tasks] == [(4, 5), (2, 3), (0, 1)]
    np.testing.assert_array_equal(np.flatnonzero(tasks[0].class_mask), [0, 1])

  def test_subsample_takes_the_first_part(self, split):
    tasks, eval_sets = split(subsample_rate=50)
    rows = np.concatenate([t.train_indices for t in tasks])
    np.testing.assert_array_equal(np.sort(rows), range(15))  # of 30
    rows = np.concatenate([e.indices for e in eval_sets])
    np.testing.assert_array_equal(np.sort(rows), range(12))  # of 24

  @pytest.mark.parametrize('rate, count, expected', [
      (-1, 7, 7), (100, 7, 7), (15, 50, 8), (25, 10, 2), (1, 40, 0)])
  def test_percent_rounds_as_tfds(self, rate, count, expected):
    assert task_stream.percent(rate, count) == expected

  def test_empty_task(self, split, npz, arrays):
    keep = arrays['test_labels'] < 4
    name = npz(test_images=arrays['test_images'][keep],
               test_labels=arrays['test_labels'][keep])
    with pytest.raises(ValueError, match='task 3 of .* has no test images'):
      split(dataset=name)


class TestGaussianSchedule:

  @pytest.mark.parametrize('case', ['small', 'real', 'step5'])
  def test_equals_the_original(self, shared, case):
    with np.load(shared / 'parity/official_l2p/gaussian_schedule.npz') as file:
      meta = json.loads(str(file['meta']))['cases'][case]
      arrays = {key.removeprefix(f'{case}/'): file[key] for key in file
                if key.startswith(f'{case}/')}
    for seed in meta['seeds']:
      key = jax.random.PRNGKey(seed)
      if meta['split_first']:
        with jax.threefry_partitionable(False):
          key = jax.random.split(key)[1]
      probability, peaks, present = task_stream.gaussian_schedule(
          num_tasks=meta['num_tasks'], num_classes=meta['num_classes'],
          step_per_task=meta['step_per_task'], key=key)
      np.testing.assert_allclose(
          probability, arrays['probability'], rtol=0, atol=1e-6)
      np.testing.assert_array_equal(peaks, arrays['peaks'])
      np.testing.assert_array_equal(present, arrays[f'present_seed_{seed}'])

  def test_no_task_is_empty(self):
    # At the ends of a long schedule nearly every draw is empty: 3 classes,
    # 400 steps apart, with peaks at 200, 600 and 1000.
    probability, peaks, present = task_stream.gaussian_schedule(
        num_tasks=12, num_classes=3, step_per_task=100,
        key=jax.random.PRNGKey(0))
    np.testing.assert_array_equal(peaks, [200, 600, 1000])
    np.testing.assert_allclose(probability[0, 0], np.exp(-8), rtol=1e-5)
    assert probability[2, 0] == 1 and present[2, 0] == 1
    assert present.any(axis=1).all()

  def test_leaves_other_random_numbers_alone(self):
    before = jax.random.uniform(jax.random.PRNGKey(0), (3,))
    task_stream.gaussian_schedule(num_tasks=2, num_classes=2, step_per_task=5,
                                  key=jax.random.PRNGKey(0))
    after = jax.random.uniform(jax.random.PRNGKey(0), (3,))
    np.testing.assert_array_equal(before, after)
