# SPDX-License-Identifier: Apache-2.0
"""Component scores and growing bases, against numbers worked out by hand."""

import numpy as np
import pytest

from promptcl.train_lib.around import subspace


def _orthogonal(size, seed=0):
  return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]


@pytest.mark.parametrize('shape', [(12, 300), (30, 7), (9, 9)])
def test_scores_are_those_of_a_centred_svd(shape, monkeypatch):
  monkeypatch.setattr(subspace, '_COLUMNS', 64)  # several parts
  rows = np.random.default_rng(0).normal(3, 1, shape).astype(np.float32)
  got = subspace.scores(rows, 5)
  u, s, _ = np.linalg.svd(rows - rows.mean(0, dtype=np.float64),
                          full_matrices=False)
  np.testing.assert_allclose(np.abs(got), np.abs(u * s)[:, :5], atol=1e-6)
  largest = np.abs(got).argmax(0)
  assert np.all(got[largest, range(5)] > 0)
  np.testing.assert_allclose(got.sum(0), 0, atol=1e-6)


def test_there_are_no_more_scores_than_rows_or_columns():
  assert subspace.scores(np.eye(4, 3), 9).shape == (4, 3)


def test_float64_where_a_float32_product_would_lose_a_component():
  """Beside a mean of 1e3 the product of rows is 1e9 times the variance."""
  rng = np.random.default_rng(0)
  wanted = rng.normal(size=(6, 50)) * 1e-1
  rows = (1e3 + wanted).astype(np.float32)
  centred = rows.astype(np.float64) - rows.mean(0, dtype=np.float64)
  got = subspace.scores(rows, 3)
  s = np.linalg.svd(centred, compute_uv=False)[:3]
  np.testing.assert_allclose(np.linalg.norm(got, axis=0), s, rtol=1e-5)


# Singular values 2, 1 of S: energies 16 and 1 of 17, shares 0.94 and 0.06.
@pytest.mark.parametrize('epsilon, first, later', [
    (0.5, 0, 1), (0.94, 0, 1), (0.95, 1, 2), (1.1, 4, 4)])
def test_the_first_call_leaves_the_crossing_component_out(
    epsilon, first, later):
  sums = _orthogonal(4)[:, :2] * [2, 1]
  assert subspace.grow(None, sums, epsilon).shape == (4, first)
  assert subspace.grow(np.zeros((4, 0)), sums, epsilon).shape == (4, later)


# Energies 4 and 1 of 5 with power 2; the one that crosses is wanted as well.
@pytest.mark.parametrize('epsilon, power, inclusive, ranks', [
    (0.79, 2, False, (0, 1)), (0.81, 2, False, (1, 2)), (0.81, 2, True, (2, 2)),
    (0.81, 4, True, (1, 1)), (0.95, 4, True, (2, 2))])
def test_other_powers_and_rules(epsilon, power, inclusive, ranks):
  sums = _orthogonal(4)[:, :2] * [2, 1]
  for basis, rank in zip((None, np.zeros((4, 0))), ranks, strict=True):
    assert subspace.grow(basis, sums, epsilon, power=power,
                         inclusive=inclusive).shape == (4, rank)
  # What a basis holds counts alike: 0.8 or 16 / 17 here.
  held = _orthogonal(4)[:, :1]
  assert subspace.grow(held, sums, 0.9, power=power).shape == (
      4, 2 if power == 2 else 1)


def test_random_directions_are_new_ones_and_repeat():
  basis = _orthogonal(9)[:, :2]
  more = subspace.random_like(basis, 5, (1, 2))
  np.testing.assert_array_equal(more[:, :2], basis)
  np.testing.assert_allclose(more.T @ more, np.eye(5), atol=1e-12)
  np.testing.assert_array_equal(more, subspace.random_like(basis, 5, (1, 2)))
  assert np.any(more != subspace.random_like(basis, 5, (1, 3)))
  np.testing.assert_array_equal(subspace.random_like(basis, 2, (1,)), basis)


def test_later_calls_count_what_the_basis_holds():
  axes = np.eye(5)
  basis = axes[:, :1]
  sums = axes[:, :3] * [2, 1, 1]  # energies 16, 1, 1: the basis holds 0.89
  assert subspace.grow(basis, sums, 0.88).shape == (5, 1)
  grown = subspace.grow(basis, sums, 0.9)
  assert grown.shape == (5, 2)
  np.testing.assert_allclose(grown[0], [1, 0], atol=1e-12)
  assert subspace.grow(grown, 7 * sums, 0.9).shape == (5, 2)


@pytest.mark.parametrize('rule', ['scores', 'moments'])
def test_bases_are_orthonormal_and_only_grow(rule):
  rng, basis = np.random.default_rng(1), None
  ranks = []
  for task in range(6):
    rows = rng.normal(size=(20, 200)) * np.linspace(3, 0.1, 200)
    if rule == 'scores':
      new = subspace.grow(basis, subspace.scores(rows, 6), 0.8)
      np.testing.assert_allclose(new.sum(0), 0, atol=1e-5)  # centred scores
    else:
      old = np.zeros((20, 0)) if basis is None else basis
      rows *= np.roll(np.geomspace(1, 1e-3, 20), 2 * task)[:, None]
      new = subspace.grow_by_moment(old, rows @ rows.T, 0.9)
    if basis is not None:
      np.testing.assert_array_equal(new[:, :basis.shape[1]], basis)
    basis = new.astype(np.float32)  # as a run keeps it
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]),
                               atol=1e-6)
    ranks.append(basis.shape[1])
  assert ranks == sorted(ranks) and 0 < ranks[0] < ranks[-1] <= 20


def test_a_full_basis_stays_as_it_is():
  full, sums = _orthogonal(6), np.random.default_rng(2).normal(size=(6, 4))
  for new in (subspace.grow(full, sums, 0.97), subspace.grow(full, sums, 1.1),
              subspace.grow_by_moment(full, sums @ sums.T, 0.97)):
    np.testing.assert_array_equal(new, full)


def test_ranks_of_a_released_key_basis():
  """Power-law spectra, as the notes on the released rule have them."""
  basis, ranks, width = None, [], 96
  for task in range(3):
    values = np.arange(1, width + 1)**-0.5
    rows = _orthogonal(width, task) * values @ _orthogonal(width, 9)
    basis = subspace.grow(basis, subspace.scores(rows, 5), 0.97)
    ranks.append(basis.shape[1])
  assert 2 <= ranks[0] <= 4
  assert all(3 <= more <= 5 for more in np.diff(ranks))


def test_moments_take_eigenvectors_until_the_share_is_reached():
  axes = _orthogonal(4)
  moment = axes * [5, 3, 1.5, 0.5] @ axes.T  # shares 0.5, 0.3, 0.15, 0.05
  for epsilon, rank in ((0.4, 1), (0.6, 2), (0.81, 3), (0.96, 4)):
    got = subspace.grow_by_moment(np.zeros((4, 0)), moment, epsilon)
    np.testing.assert_allclose(
        got @ got.T, axes[:, :rank] @ axes[:, :rank].T, atol=1e-9)
  assert subspace.grow_by_moment(axes[:, 2:], moment, 0.6).shape == (4, 3)


def test_stacked_moments_count_alike_whatever_their_size():
  big, small = np.diag([1e6, 0.0]), np.diag([0.0, 1e-6])
  np.testing.assert_allclose(subspace.stacked((big, small)), np.eye(2))
