# SPDX-License-Identifier: Apache-2.0
"""Layer attention: a block's tokens ask the plain backbone's final ones.

Cross-attention with a residual MLP before it, after Tang et al., When
Prompt-based Incremental Learning Does Not Meet Strong Pretraining (APG), ICCV
2023; one copy for each prompted block, stacked.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Array = jax.Array
Weights = tuple[Array, Array]


class StackedDense(nn.Module):
  """Affine maps of several layers: `kernel` [L, I, O], `bias` [L, O]."""

  shape: tuple[int, int, int]
  kernel_init: nn.initializers.Initializer
  bias_init: nn.initializers.Initializer

  @nn.compact
  def __call__(self, place: int) -> Weights:
    """Kernel [I, O] and bias [O] of a layer."""
    layers, _, features = self.shape
    kernel = self.param('kernel', self.kernel_init, self.shape)
    bias = self.param('bias', self.bias_init, (layers, features))
    return kernel[place], bias[place]


def affine(x: Array, weights: Weights) -> Array:
  """x [..., I] -> [..., O] in the dtype of x."""
  kernel, bias = weights
  return x @ kernel.astype(x.dtype) + bias.astype(x.dtype)


def drop(x: Array, keys: Array | None, rate: float) -> Array:
  """Dropout of x [B, ...] by a key per image, none without keys."""
  if keys is None or not rate:
    return x
  keep = jax.vmap(
      lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
  return jnp.where(keep, x / (1 - rate), 0)


def attention_weights(query: Array, key: Array) -> Array:
  """[B, T, H, d], [B, N, H, d] -> [B, H, T, N]; the softmax is in float32."""
  logits = jnp.einsum('bqhd,bkhd->bhqk', query * query.shape[-1]**-0.5, key,
                      preferred_element_type=jnp.float32)
  return jax.nn.softmax(logits, axis=-1).astype(query.dtype)


def attend(weights: dict[str, Weights], tokens: Array, source: Array,
           keys: Array | None, *, num_heads: int, dropout_rate: float,
           rescale: bool) -> tuple[Array, Array]:
  """Layer attention of one block.

  Args:
    weights: of `fc1`, `fc2`, `query`, `key`, `value`, `out`.
    tokens: [B, T, D] that enter the block.
    source: [B, N, D] that they ask.
    keys: [B] random keys, None for no dropout.
    num_heads: H.
    dropout_rate: of attention weights and of the output.
    rescale: divide by the square root of D / H once more after the softmax.

  Returns:
    [B, T, D], and the attention weights [B, H, T, N] without dropout.
  """
  heads = lambda x: x.reshape(*x.shape[:-1], num_heads, -1)
  keys = (None, None) if keys is None else jax.vmap(
      lambda key: jax.random.split(key), out_axes=1)(keys)
  hidden = nn.gelu(affine(source, weights['fc1']), approximate=False)
  source = affine(hidden, weights['fc2']) + source
  query = heads(affine(tokens, weights['query']))
  found = attention_weights(query, heads(affine(source, weights['key'])))
  value = heads(affine(source, weights['value']))
  if rescale:  # of the weights; there are fewer values
    value = value * value.shape[-1]**-0.5
  mixed = jnp.einsum('bhqk,bkhd->bqhd', drop(found, keys[0], dropout_rate),
                     value).reshape(tokens.shape)
  mixed = drop(affine(mixed, weights['out']), keys[1], dropout_rate)
  return tokens + mixed, found


class LayerAttention(nn.Module):
  """`attend` for all prompted blocks.

  Attributes:
    num_layers, width, num_heads: L, D, H.
    dropout_rate, rescale: see `attend`.
    remat: compute it once more in the backward pass.

  Parameters: `kernel` [L, D, D] and `bias` [L, D] of six maps; `out` starts at
  zero, so that at first tokens pass as they are.
  """

  num_layers: int
  width: int
  num_heads: int
  dropout_rate: float
  rescale: bool
  remat: bool

  @nn.compact
  def __call__(self, place: int, tokens: Array, source: Array,
               keys: Array | None) -> tuple[Array, Array]:
    shape = (self.num_layers, self.width, self.width)
    bound = self.width**-0.5
    draw: Any = lambda key, shape, dtype=jnp.float32: jax.random.uniform(
        key, shape, dtype, -bound, bound)
    zeros = nn.initializers.zeros
    weights = {
        name: StackedDense(shape, *((zeros, zeros) if name == 'out' else
                                    (draw, draw)), name=name)(place)
        for name in ('fc1', 'fc2', 'query', 'key', 'value', 'out')}
    run = functools.partial(
        attend, num_heads=self.num_heads, dropout_rate=self.dropout_rate,
        rescale=self.rescale)
    if self.remat:  # weights [B, H, T, N] of all blocks are much to keep
      run = jax.checkpoint(run)
    return run(weights, tokens, source, keys)
