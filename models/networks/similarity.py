# SPDX-License-Identifier: Apache-2.0
"""Unit vectors and cosines, as google-research/l2p has them."""

import jax
import jax.numpy as jnp

Array = jax.Array


def l2_normalize(x: Array) -> Array:
  """x / ||x|| over the last axis, safe at 0: x * max(sum x^2, 1e-12)^-1/2."""
  square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.maximum(square, 1e-12))


def cosine(query: Array, key: Array) -> Array:
  """query [B, D], key [M, D] -> cosine similarities [B, M]."""
  return l2_normalize(query) @ l2_normalize(key).T
