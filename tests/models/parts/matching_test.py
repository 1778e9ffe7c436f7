# SPDX-License-Identifier: Apache-2.0
"""Matching of queries and keys, against numbers worked by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from promptcl.models.networks import similarity as similarity_lib
from promptcl.models.parts import matching


def test_normalisation_is_safe_at_zero():
  unit = similarity_lib.l2_normalize(jnp.array([[3.0, 4.0], [0.0, 0.0]]))
  np.testing.assert_allclose(unit, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)
  # Below the floor of 1e-12 on the squared norm: times 1e6, not to length 1.
  tiny = similarity_lib.l2_normalize(jnp.array([1e-8, 0.0]))
  np.testing.assert_allclose(tiny, [1e-2, 0.0], rtol=1e-5)


def test_cosine_by_hand():
  query = jnp.array([[3.0, 4.0], [0.0, 2.0]])
  key = jnp.array([[1.0, 0.0], [0.0, 5.0], [-4.0, -3.0]])
  np.testing.assert_allclose(
      similarity_lib.cosine(query, key), [[0.6, 0.8, -0.96], [0.0, 1.0, -0.6]],
      atol=1e-6)


def test_best_come_first_and_the_lower_index_wins_ties():
  similarity = jnp.array([[0.1, 0.7, 0.3, 0.7], [0.5, 0.5, 0.5, 0.5]])
  picked = matching.best(similarity, 3)
  np.testing.assert_array_equal(picked, [[1, 3, 2], [0, 1, 2]])
  assert picked.dtype == jnp.int32


@pytest.mark.parametrize('mask, winners', [
    # Votes: 0 has 1, 1 has 2, 2 has 3, 4 has 2: then 1 before 4.
    (None, [2, 1]),
    ([1, 1, 1, 1], [2, 1]),
    # Without the last image 0, 1, 4 have 1, 1, 2 and 2 has 2: 2 before 4.
    ([1, 1, 1, 0], [2, 4]),
    # The first image alone: one vote each.
    ([1, 0, 0, 0], [2, 4]),
])
def test_majority_vote_by_hand(mask, winners):
  indices = jnp.array([[2, 4], [4, 2], [1, 0], [2, 1]])
  mask = None if mask is None else jnp.array(mask, jnp.float32)
  voted = matching.majority_vote(indices, 5, mask)
  np.testing.assert_array_equal(voted, [winners] * 4)
  assert voted.dtype == jnp.int32


def test_equal_votes_go_to_the_smaller_index():
  indices = jnp.array([[3, 1], [0, 2]])
  np.testing.assert_array_equal(
      matching.majority_vote(indices, 4), [[0, 1], [0, 1]])


@pytest.mark.parametrize('task, expected', [
    (0, [[0, 1], [0, 1]]),
    (1, [[2, 3], [2, 3]]),
    (2, [[4, 0], [3, 1]]),  # 4 and 5 of a pool of 5: keys decide again
    (7, [[4, 0], [3, 1]]),
])
def test_own_prompts_as_far_as_the_pool_goes(task, expected):
  otherwise = jnp.array([[4, 0], [3, 1]])
  np.testing.assert_array_equal(
      matching.own_prompts(jnp.int32(task), otherwise, 5), expected)


def test_the_last_prompts_of_the_pool_still_belong_to_a_task():
  otherwise = jnp.zeros((1, 2), jnp.int32)
  np.testing.assert_array_equal(
      matching.own_prompts(jnp.int32(2), otherwise, 6), [[4, 5]])


def test_pull_loss_by_hand():
  similarity = jnp.array([[0.5, 0.25, -1.0], [0.0, 0.75, 0.1]])
  indices = jnp.array([[0, 1], [1, 0]])
  # -((0.5 + 0.25) + (0.75 + 0.0)) / 2 images, not per used prompt.
  assert float(matching.pull_loss(similarity, indices)) == -0.75


def test_random_prompts_are_different_ones_and_equally_likely():
  keys = matching.image_keys(0, jnp.int32(0), jnp.arange(4000))
  picked = np.asarray(matching.random_prompts(keys, 2, 5))
  assert picked.shape == (4000, 2) and picked.dtype == np.int32
  assert (picked[:, 0] != picked[:, 1]).all()
  share = np.bincount(picked.ravel(), minlength=5) / 8000
  np.testing.assert_allclose(share, 0.2, atol=0.02)


def test_random_prompts_depend_on_seed_set_and_place_alone():
  draw = lambda seed, task, places: np.asarray(matching.random_prompts(
      matching.image_keys(seed, jnp.int32(task), jnp.array(places)), 3, 1000))
  one = draw(0, 0, [4, 9])
  np.testing.assert_array_equal(one, draw(0, 0, [9, 4])[::-1])
  for other in (draw(1, 0, [4, 9]), draw(0, 1, [4, 9]), draw(0, 0, [5, 8])):
    assert (one != other).any(axis=1).all()
