# SPDX-License-Identifier: Apache-2.0
"""Choosing prompts by key: pure functions.

Reference: Wang et al., Learning to Prompt, CVPR 2022, equations 3-5, and the
behaviour of google-research/l2p (cosine similarity, batch majority vote).
"""

import jax
import jax.numpy as jnp

Array = jax.Array


def best(similarity: Array, k: int) -> Array:
  """The `k` most similar of [B, M], best first -> [B, K] int32.

  Equal similarities: the lower index wins.
  """
  return jax.lax.top_k(similarity, k)[1]


def majority_vote(indices: Array, pool_size: int, mask: Array | None = None
                  ) -> Array:
  """Gives every image the prompts that most images of the batch chose.

  Args:
    indices: [B, K] each image's own choice.
    pool_size: M.
    mask: [B], 0 for images that have no vote.

  Returns:
    [B, K] int32, all rows equal: more votes first, then the smaller index.
  """
  votes = jax.nn.one_hot(indices, pool_size, dtype=jnp.float32)
  if mask is not None:
    votes *= mask[:, None, None]
  winners = best(jnp.sum(votes, axis=(0, 1)), indices.shape[1])
  return jnp.broadcast_to(winners, indices.shape)


def own_prompts(task_index: Array, otherwise: Array, pool_size: int) -> Array:
  """The prompts t*K ... (t+1)*K - 1 that belong to task t, for all images.

  Args:
    task_index: [] int32, traced.
    otherwise: [B, K] used when the task's prompts lie beyond the pool.
    pool_size: M.

  Returns:
    [B, K] int32.
  """
  k = otherwise.shape[1]
  mine = task_index * k + jnp.arange(k, dtype=otherwise.dtype)
  return jnp.where((task_index + 1) * k <= pool_size, mine, otherwise)


def image_keys(seed: int, task_index: Array, place: Array) -> Array:
  """A random key for each image of an evaluation set, whatever its batch.

  Args:
    seed: of the run.
    task_index: [] int32, number of the evaluation set.
    place: [B] int32, place of each image in the set.

  Returns:
    [B] keys.
  """
  key = jax.random.fold_in(jax.random.key(seed), task_index)
  return jax.vmap(lambda i: jax.random.fold_in(key, i))(place)


def random_prompts(keys: Array, k: int, pool_size: int) -> Array:
  """`k` different prompts for each of [B] keys, all equally likely: [B, K]."""
  draw = lambda rng: jax.random.permutation(rng, pool_size)[:k]
  return jax.vmap(draw)(keys).astype(jnp.int32)


def pull_loss(similarity: Array, indices: Array, mask: Array | None = None
              ) -> Array:
  """Minus the mean over images of the summed cosine to their used keys.

  Args:
    similarity: [B, M] cosines.
    indices: [B, K] used prompts.
    mask: [B], 0 for images that do not count.

  Returns:
    [] float32 (L2P equation 5, second term, with natural sign).
  """
  used = jnp.take_along_axis(similarity, indices, axis=1)
  if mask is None:
    return -jnp.sum(used) / similarity.shape[0]
  return -jnp.sum(used * mask[:, None]) / jnp.maximum(jnp.sum(mask), 1.0)
