# SPDX-License-Identifier: Apache-2.0
"""Gaussians of classes: numbers by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from promptcl.models.parts import class_statistics

VECTORS = np.float32([[1, 0], [3, 4], [5, 5], [5, 5], [9, 1]])
LABELS = np.array([2, 2, 0, 0, 3])


def _learned(num_slots=1):
  return class_statistics.learned(
      class_statistics.empty(4, num_slots, 2), VECTORS, LABELS)


def test_mean_and_population_variance_of_each_class():
  stats = _learned()
  np.testing.assert_array_equal(stats['mean'][2, 0], [2, 2])
  np.testing.assert_array_equal(stats['variance'][2, 0], [1, 4])
  np.testing.assert_array_equal(stats['count'][:, 0], [2, 0, 2, 1])


def test_other_classes_stay():
  later = class_statistics.learned(
      _learned(), np.float32([[7, 7], [7, 9]]), np.array([1, 1]))
  np.testing.assert_array_equal(later['mean'][:, 0],
                                [[5, 5], [7, 8], [2, 2], [9, 1]])


def test_two_slots_hold_the_two_clusters_of_a_class():
  vectors = np.float32([[0, 0], [0, 2], [50, 50], [50, 52]])
  stats = class_statistics.learned(
      class_statistics.empty(1, 2, 2), vectors, np.zeros(4, int))
  means = sorted(map(tuple, stats['mean'][0].tolist()))
  assert means == [(0, 1), (50, 51)]
  np.testing.assert_array_equal(stats['variance'][0], [[0, 1], [0, 1]])


def test_a_draw_is_mean_plus_deviation_times_a_normal_number():
  found = class_statistics.draw(
      _learned(), jnp.array([2, 0]), jnp.array([0, 0]),
      jnp.float32([[1, -1], [2, 2]]), added=0.0)
  np.testing.assert_array_equal(found, [[3, 0], [5, 5]])


def test_a_draw_depends_on_its_key_alone():
  keys = jax.random.split(jax.random.key(0), 3)
  both = class_statistics.draw(
      _learned(), jnp.array([2, 0, 2]), jnp.zeros(3, int), keys)
  one = class_statistics.draw(
      _learned(), jnp.array([2]), jnp.zeros(1, int), keys[2:])
  np.testing.assert_array_equal(both[2:], one)
  assert np.all(both[0] != both[2])


def test_balanced_rows_leave_out_what_has_no_spread():
  stats = _learned()  # class 0 has two equal vectors, class 3 a single one
  labels, slots = class_statistics.balanced(
      np.random.default_rng(0), stats, [0, 2, 3], 5)
  assert labels.tolist() == [2] * 5 and not slots.any()
  stats['variance'][0] = 1
  labels, _ = class_statistics.balanced(
      np.random.default_rng(0), stats, [0, 2], 50)
  np.testing.assert_array_equal(np.bincount(labels), [50, 0, 50])
  assert len(set(labels[:20])) == 2  # shuffled
