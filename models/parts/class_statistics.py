# SPDX-License-Identifier: Apache-2.0
"""Gaussians of features, a few per class: memory that stands in for old images.

  memory = lambda params: {'features': class_statistics.empty(C, K, E)}
  ...
  stats = class_statistics.learned(stats, vectors, labels)  # after a task
  labels, slots = class_statistics.balanced(rng, stats, classes, per_slot)
  x = class_statistics.draw(stats, labels, slots, keys)  # inside a loss

A class has K slots, one per cluster of its features; VQ-Prompt and HiDe-Prompt
call this K centroids (K = 1 in their published settings).
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
Statistics = Mapping[str, Array]
ADDED_VARIANCE = 1e-4  # to every variance when vectors are drawn


def empty(num_classes: int, num_slots: int, width: int) -> dict[str, Array]:
  """Statistics of no class: `mean`, `variance` [C, K, E], `count` [C, K]."""
  shape = (num_classes, num_slots, width)
  return {'mean': np.zeros(shape, np.float32),
          'variance': np.zeros(shape, np.float32),
          'count': np.zeros(shape[:2], np.int32)}


def learned(stats: Statistics, vectors: np.ndarray, labels: np.ndarray
            ) -> dict[str, Array]:
  """Statistics with the classes of `labels` put in; the others stay.

  Args:
    stats: as from `empty`.
    vectors: [N, E].
    labels: int [N].

  Returns:
    Mean and population variance per dimension of each cluster, computed in
    float64.
  """
  stats = {name: np.array(x) for name, x in stats.items()}
  for label in np.unique(labels):
    own = np.asarray(vectors[labels == label], np.float64)
    clusters = _clusters(own, stats['count'].shape[1])
    for slot in range(stats['count'].shape[1]):
      members = own[clusters == slot]
      stats['count'][label, slot] = len(members)
      if len(members):
        stats['mean'][label, slot] = members.mean(axis=0)
        stats['variance'][label, slot] = members.var(axis=0)
  return stats


def _clusters(vectors: np.ndarray, count: int) -> np.ndarray:
  """Cluster of each vector [N], by k-means if there is more than one."""
  if count == 1:
    return np.zeros(len(vectors), int)
  from sklearn import cluster  # slow to import, and seldom needed
  count = min(count, len(vectors))
  return cluster.KMeans(count, n_init=10, random_state=0).fit_predict(vectors)


def draw(stats: Statistics, labels: Array, slots: Array, normals: Array, *,
         added: float = ADDED_VARIANCE) -> Array:
  """A vector of each class: mean + sqrt(variance + added) * normal.

  Args:
    stats: of the classes asked for.
    labels, slots: int32 [B].
    normals: [B, E] standard normal numbers, or random keys [B].
    added: to the variance.

  Returns:
    [B, E] float32.
  """
  mean = stats['mean'][labels, slots]
  if jnp.issubdtype(normals.dtype, jax.dtypes.prng_key):
    normals = jax.vmap(lambda key: jax.random.normal(key, mean.shape[1:])
                       )(normals)
  return mean + jnp.sqrt(stats['variance'][labels, slots] + added) * normals


def balanced(rng: np.random.Generator, stats: Statistics, classes: np.ndarray,
             per_slot: int) -> tuple[np.ndarray, np.ndarray]:
  """Labels and slots [R] of equally many draws from each Gaussian, shuffled.

  Slots without vectors, or whose vectors are all the same, are left out.

  Args:
    rng: host generator; the same on every host.
    stats: on the host.
    classes: that take part.
    per_slot: draws from each.
  """
  spread = np.mean(np.asarray(stats['variance']), axis=-1) > 0
  pairs = [(label, slot) for label in classes
           for slot in np.flatnonzero(spread[label])]
  rows = np.repeat(np.array(pairs, np.int32).reshape(-1, 2), per_slot, axis=0)
  rows = rows[rng.permutation(len(rows))]
  return rows[:, 0], rows[:, 1]
