# SPDX-License-Identifier: Apache-2.0
"""Subspaces of [D] that tasks use: principal components and how a basis grows.

NumPy in float64 on the host; nothing here knows of models.  A basis F [D, r]
has orthonormal columns.

Two readings of Qiao et al., Prompt Gradient Projection for Continual Learning
(ICLR 2024).  `grow` is what their released code does: S holds principal
component scores of D images, so F lives in the space of image numbers, and
energies are fourth powers of the singular values of S.  `grow_by_moment` is
what their derivation asks for: second moments of inputs of width D.
"""

from collections.abc import Iterable

import numpy as np

Array = np.ndarray
_COLUMNS = 8192  # taken to float64 at once


def gram(rows: Array) -> Array:
  """rows [n, m] -> rows @ rows.T, float64 [n, n].

  m may be 150,528: a part of the columns is widened at a time, so beside
  `rows` there are 50 MB at n = 768.
  """
  total = np.zeros((rows.shape[0],) * 2)
  for start in range(0, rows.shape[1], _COLUMNS):
    part = np.asarray(rows[:, start:start + _COLUMNS], np.float64)
    total += part @ part.T
  return total


def scores(rows: Array, components: int) -> Array:
  """Principal component scores, float64 [n, k]: exact, from the Gram matrix.

  Columns of `rows` are centred.  The largest entry of each score column is
  positive, as in scikit-learn 1.3.

  Args:
    rows: [n, m].
    components: k; fewer come back when min(n, m) is smaller.
  """
  products = gram(rows)
  products -= products.mean(axis=0)
  products -= products.mean(axis=1, keepdims=True)
  values, vectors = np.linalg.eigh((products + products.T) / 2)
  last = slice(None, -min(components, *rows.shape) - 1, -1)
  found = vectors[:, last] * np.sqrt(np.maximum(values[last], 0.0))
  largest = np.argmax(np.abs(found), axis=0)
  return found * np.where(found[largest, np.arange(found.shape[1])] < 0, -1, 1)


def grow(basis: Array | None, sums: Array, epsilon: float, *, power: int = 4,
         inclusive: bool = False) -> Array:
  """The basis after one more call, by the rule of the released code.

  The energy of a component of R = S S^T is its squared singular value, which is
  the fourth power of that of S; `power` 2 takes S for R.  The
  first call takes components while their share stays below `epsilon`: the one
  that crosses it is left out, so none may be taken.  Later calls count what
  the basis already holds, take components of (I - F F^T) R until the share is
  reached, and include the one that crosses it.

  Args:
    basis: F [D, r] of earlier calls, r may be 0; None in the first call.
    sums: S [D, k].
    epsilon: share of the energy.
    power: 4 or 2.
    inclusive: whether the first call takes the one that crosses, too.

  Returns:
    float64 [D, r'], F first; never more columns than rows.
  """
  sums = np.asarray(sums, np.float64)
  # R = S S^T has as many components as S: with S = Q T, R = (S T^T) Q^T.
  triangle = np.linalg.qr(sums, mode='r')
  right = triangle.T if power == 4 else np.eye(len(triangle.T))
  total = np.sum(np.square(sums @ right))
  if basis is None and not inclusive:
    vectors, energies = _components(sums @ right)
    taken = int(np.sum(np.cumsum(energies) < epsilon * energies.sum()))
    return vectors[:, :taken]
  basis = np.zeros((len(sums), 0)) if basis is None else np.asarray(
      basis, np.float64)
  rest = sums - basis @ (basis.T @ sums)
  vectors, energies = _components(rest @ right)
  taken = _until(energies / total, 1 - energies.sum() / total, epsilon)
  return _joined(basis, vectors[:, :taken])


def grow_by_moment(basis: Array, moment: Array, epsilon: float) -> Array:
  """The basis after one more call, on energies of inputs.

  Takes eigenvectors of (I - F F^T) R (I - F F^T) until F holds `epsilon` of the
  trace of R; the one that crosses it is included.

  Args:
    basis: F [D, r]; r is 0 at first.
    moment: R [D, D], second moment of the rows in question, not centred.
    epsilon: share of the energy.
  """
  basis = np.asarray(basis, np.float64)
  moment = np.asarray(moment, np.float64)
  rest = moment - basis @ (basis.T @ moment)
  rest -= (rest @ basis) @ basis.T
  values, vectors = np.linalg.eigh((rest + rest.T) / 2)
  shares = np.maximum(values[::-1], 0.0) / np.trace(moment)
  taken = _until(shares, 1 - shares.sum(), epsilon)
  return _joined(basis, vectors[:, ::-1][:, :taken])


def random_like(basis: Array, count: int, seed: Iterable[int]) -> Array:
  """F [D, r] and random directions up to `count` columns, orthonormal."""
  noise = np.random.default_rng(list(seed)).normal(size=basis.shape[:1] * 2)
  rest = noise[:, basis.shape[1]:count]
  rest = rest - basis @ (basis.T @ rest)
  return _joined(np.asarray(basis, np.float64), np.linalg.qr(rest)[0])


def stacked(moments: Iterable[Array]) -> Array:
  """Second moment of several kinds of rows, each of the same total energy."""
  return sum(moment / max(np.trace(moment), 1e-300) for moment in moments)


def _components(matrix: Array) -> tuple[Array, Array]:
  """[D, k] -> left singular vectors [D, D] and squared values [D]."""
  vectors, values, _ = np.linalg.svd(matrix)
  energies = np.zeros(len(matrix))
  energies[:len(values)] = values**2
  return vectors, energies


def _until(shares: Array, share: float, epsilon: float) -> int:
  """How many of `shares` are added to `share` until it reaches `epsilon`."""
  reached = share + np.concatenate([[0.0], np.cumsum(shares)])
  return int(np.sum(reached[:-1] < epsilon))


def _joined(basis: Array, more: Array) -> Array:
  """Both, cut to as many columns as rows.

  A basis that was kept in float32 is orthonormal to 1e-7 only, so what is new
  is freed of it once more.
  """
  more = more[:, :len(basis) - basis.shape[1]]
  more = more - basis @ (basis.T @ more)
  norms = np.linalg.norm(more, axis=0)
  return np.concatenate([basis, more / np.where(norms > 0, norms, 1.0)], axis=1)
