# SPDX-License-Identifier: Apache-2.0
"""The Gaussian schedule, and the stream of the original at full size."""

import json
import tracemalloc

import jax
import numpy as np
import pytest

from promptcl.input_pipeline import pipeline
from promptcl.input_pipeline.read import datasets
from promptcl.input_pipeline.streams import gaussian
from promptcl.input_pipeline.streams import scenarios


@pytest.fixture
def official(shared):
  """Recorded cases of the original: {name: (meta, arrays)}."""
  with np.load(shared / 'parity/official_l2p/gaussian_schedule.npz') as file:
    arrays = {key: file[key] for key in file}
  metas = json.loads(str(arrays['meta']))['cases']
  return {case: (meta, {key.removeprefix(f'{case}/'): value
                        for key, value in arrays.items()
                        if key.startswith(f'{case}/')})
          for case, meta in metas.items()}


class _Labels:
  """As many labels as CIFAR-100 has, and no pictures."""

  domains = None

  def __init__(self, per_class):
    rng = np.random.default_rng(0)
    self.labels = rng.permutation(
        np.repeat(np.arange(100, dtype=np.int32), per_class))

  def __len__(self):
    return self.labels.size

  def image(self, index):
    raise AssertionError(f'image {index} was read')


@pytest.fixture
def large():
  """A data set of 50,000 and 10,000 images that must not be read."""
  names = tuple(map(str, range(100)))
  return datasets.Dataset(
      name='large', train=_Labels(500), test=_Labels(100), num_classes=100,
      class_names=names, mean=np.zeros(3), std=np.ones(3))


@pytest.fixture
def real_config(make_config):
  """The setting of the original, in either mode."""
  def make(mode='jax_released', **changes):
    return make_config(**{
        'dataset': 'large', 'gaussian_schedule': True, 'gaussian_mode': mode,
        'continual.num_tasks': 200, 'continual.num_classes_per_task': 100,
        'num_epochs': 1 if mode == 'paper' else 5, **changes})
  return make


class TestSchedule:

  @pytest.mark.parametrize('case', ['small', 'real', 'step5'])
  def test_equals_the_original(self, official, case):
    meta, arrays = official[case]
    for seed in meta['seeds']:
      key = (gaussian.official_key(seed) if meta['split_first']
             else jax.random.PRNGKey(seed))
      probability, peaks, present = gaussian.schedule(
          num_tasks=meta['num_tasks'], num_classes=meta['num_classes'],
          step_per_task=meta['step_per_task'], key=key)
      np.testing.assert_allclose(
          probability, arrays['probability'], rtol=0, atol=1e-6)
      np.testing.assert_array_equal(peaks, arrays['peaks'])
      np.testing.assert_array_equal(present, arrays[f'present_seed_{seed}'])

  def test_no_task_is_empty(self):
    # At the ends of a long schedule nearly every draw is empty: 3 classes,
    # 400 steps apart, with peaks at 200, 600 and 1000.
    probability, peaks, present = gaussian.schedule(
        num_tasks=12, num_classes=3, step_per_task=100,
        key=jax.random.PRNGKey(0))
    np.testing.assert_array_equal(peaks, [200, 600, 1000])
    np.testing.assert_allclose(probability[0, 0], np.exp(-8), rtol=1e-5)
    assert probability[2, 0] == 1 and present[2, 0] == 1
    assert present.any(axis=1).all()

  def test_too_short_for_its_classes(self):
    with pytest.raises(ValueError, match='num_tasks=2 .* 4 steps .* 6 classes'):
      gaussian.schedule(num_tasks=2, num_classes=6, step_per_task=2,
                        key=jax.random.PRNGKey(0))

  def test_leaves_other_random_numbers_alone(self):
    before = jax.random.uniform(jax.random.PRNGKey(0), (3,))
    gaussian.schedule(num_tasks=2, num_classes=2, step_per_task=5,
                      key=gaussian.official_key(0))
    after = jax.random.uniform(jax.random.PRNGKey(0), (3,))
    np.testing.assert_array_equal(before, after)


class TestRows:

  @pytest.fixture
  def columns(self):
    return np.array([2, 0, 3, 2, 0, 3, 2, 3, 3])  # nobody in column 1

  @pytest.mark.parametrize('wanted, expected', [
      ([0, 2], [1, 4, 0, 3, 6]), ([1, 3], [2, 5, 7, 8]), ([0], [1, 4]),
      ([0, 1, 2, 3], [1, 4, 0, 3, 6, 2, 5, 7, 8])])
  def test_is_used_like_an_array(self, columns, wanted, expected):
    rows = gaussian.Rows(*gaussian.rows_by_class(columns, 4), np.array(wanted))
    expected = np.array(expected)
    assert len(rows) == expected.size
    assert [rows[place] for place in range(len(rows))] == expected.tolist()
    assert list(rows) == expected.tolist()
    np.testing.assert_array_equal(rows, expected)
    for index in (-1, slice(1, None), [1, 0], expected > 2, np.array([[1]])):
      np.testing.assert_array_equal(rows[index], expected[index])
    with pytest.raises(IndexError):
      rows[len(rows)]
    assert np.asarray(rows).dtype == np.int64
    assert np.asarray(rows, np.float32).dtype == np.float32


class TestStreamOfTheOriginal:

  @pytest.mark.parametrize('mode, case', [
      ('jax_released', 'real'), ('', 'real'), ('paper', 'step5')])
  def test_classes_are_the_official_draws(
      self, official, large, real_config, mode, case):
    plan = scenarios.plan(real_config(mode), large)  # seed 42
    masks = np.array([task.class_mask for task in plan.tasks])
    np.testing.assert_array_equal(masks, official[case][1]['present_seed_42'])
    for task in plan.tasks[::40]:
      labels = large.train.labels[np.asarray(task.train_indices)]
      assert task.classes == tuple(np.flatnonzero(task.class_mask))
      assert task.num_examples == labels.size == 500 * len(task.classes)
      assert set(labels) == set(task.classes)
      assert len(np.unique(task.train_indices)) == labels.size

  def test_evaluation_after_every_tenth_on_everything(self, large, real_config):
    plan = scenarios.plan(real_config(), large)
    evaluated = [t.index + 1 for t in plan.tasks if t.eval_sets]
    assert evaluated == list(range(10, 201, 10))
    assert {t.eval_sets for t in plan.tasks} == {(), (0,)}
    eval_set, = plan.eval_sets
    assert eval_set.class_mask.all()
    np.testing.assert_array_equal(eval_set.indices, range(10000))

  def test_memory_is_that_of_one_list(self, large, real_config):
    config = real_config()
    scenarios.plan(config, large)  # what JAX keeps is not counted
    tracemalloc.start()
    try:
      plan = scenarios.plan(config, large)
      stream = pipeline.TaskStream(config, plan, global_batch_size=128)
      for task in stream.tasks:
        assert large.train.labels[task.train_indices[7]] in task.classes
      size, _ = tracemalloc.get_traced_memory()
    finally:
      tracemalloc.stop()
    listed = sum(8 * task.num_examples for task in stream.tasks)
    assert listed > 38e6  # what 200 lists would take
    assert size < 2e6

  def test_steps_of_each_episode(self, large, real_config):
    config = real_config()
    stream = pipeline.TaskStream(config, scenarios.plan(config, large),
                                 global_batch_size=128)
    counts = [500 * len(t.classes) * 5 // 128 // 5 * 5 for t in stream.tasks]
    assert [stream.schedule(t).num_steps for t in stream.tasks] == counts
