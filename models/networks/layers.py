# SPDX-License-Identifier: Apache-2.0
"""What a Vision Transformer is made of: embeddings, attention, blocks.

Parameter names and shapes are those of the `ViT-B_16.npz` family.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

Array = jax.Array

# `quick` is the cheap form that CLIP was trained with.
GELUS = {
    'tanh': nn.gelu, 'exact': functools.partial(nn.gelu, approximate=False),
    'quick': lambda x: x * nn.sigmoid(1.702 * x)}


@dataclasses.dataclass(frozen=True)
class Traits:
  """In what families of transformers of one shape differ.

  Attributes:
    gelu: key of `GELUS`: `tanh` (the original family), `exact` (timm, DeiT) or
      `quick` (CLIP).
    epsilon: of the norms.
    pre_norm: a norm of all tokens in front of the first block.
    patch_bias: whether the patch embedding adds one.
    causal: whether a token sees itself, earlier ones and prefixes only.
  """

  gelu: str = 'tanh'
  epsilon: float = 1e-6
  pre_norm: bool = False
  patch_bias: bool = True
  causal: bool = False

  def norm(self, name: str, dtype: DTypeLike) -> nn.LayerNorm:
    """A layer norm."""
    return nn.LayerNorm(epsilon=self.epsilon, dtype=dtype, name=name)


class PatchEmbedding(nn.Module):
  """Cuts images into patches and projects them, row by row.

  A stride-p convolution written as one matrix product, which is faster than
  the convolution on CPU (its kernel gradient by far) and equal elsewhere.
  """

  patch_size: int
  width: int
  dtype: DTypeLike = jnp.float32
  use_bias: bool = True

  @nn.compact
  def __call__(self, images: Array) -> Array:
    """images [B, h, w, C] -> [B, N, D] with N = (h // p) * (w // p)."""
    p = self.patch_size
    batch, height, width, channels = images.shape
    kernel = self.param(
        'kernel', nn.initializers.lecun_normal(in_axis=(0, 1, 2)),
        (p, p, channels, self.width))
    images = images[:, :height // p * p, :width // p * p]
    x = images.reshape(batch, height // p, p, width // p, p, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, -1, p * p * channels)
    kernel = kernel.reshape(-1, self.width)
    x = jnp.dot(x.astype(self.dtype), kernel.astype(self.dtype))
    if not self.use_bias:
      return x
    bias = self.param('bias', nn.initializers.zeros, (self.width,))
    return x + bias.astype(self.dtype)


class PositionEmbedding(nn.Module):
  """Adds the learned position table [1, 1 + N, D]; row 0: class token.

  Attributes:
    num_prompts: P, prompt tokens with a row of their own; these rows start as
      copies of the class token's.
  """

  num_prompts: int = 0

  @nn.compact
  def __call__(self, x: Array) -> tuple[Array, Array | None]:
    """x [B, 1 + N, D] -> x with positions, rows [1, P, D] of the prompts."""
    table = self.param('pos_embedding', nn.initializers.normal(0.02),
                       (1,) + x.shape[1:])
    rows = None
    if self.num_prompts:
      rows = self.param('pos_embedding_prompts', lambda _: jnp.repeat(
          table[:, :1], self.num_prompts, axis=1))
    return x + table.astype(x.dtype), rows


def attend(query: Array, key: Array, value: Array,
           visible: Array | None = None) -> Array:
  """Softmax attention: query [B, R, H, d], key and value [B, T, H, d].

  `visible` [R, T] bool says which keys each query sees; None: all of them.
  Written out because `jax.nn.dot_product_attention` took 8 to 15 % longer for
  forward and backward on CPU, where the tests and the offline default run.

  Returns:
    [B, R, H, d] in the dtype of the values; the softmax is in float32.
  """
  query = query * query.shape[-1]**-0.5
  logits = jnp.einsum('bqhd,bkhd->bhqk', query, key,
                      preferred_element_type=jnp.float32)
  if visible is not None:
    logits = jnp.where(visible, logits, -jnp.inf)
  weights = jax.nn.softmax(logits, axis=-1).astype(value.dtype)
  return jnp.einsum('bhqk,bkhd->bqhd', weights, value)


class Attention(nn.Module):
  """Multi-head self-attention with an optional key/value prefix.

  Prefix tuning (Li & Liang, 2021): the prefix joins keys and values after
  their projections, so it costs no query rows.
  """

  num_heads: int
  dtype: DTypeLike = jnp.float32
  causal: bool = False

  @nn.compact
  def __call__(self, x: Array, prefix: Array | None, rows: slice) -> Array:
    """x [B, T, D] -> [B, R, D] for the query rows asked for."""
    width = x.shape[-1]
    dense = functools.partial(
        nn.DenseGeneral, dtype=self.dtype,
        kernel_init=nn.initializers.xavier_uniform())
    heads = functools.partial(
        dense, features=(self.num_heads, width // self.num_heads))
    query = heads(name='query')(x[:, rows])
    key, value = heads(name='key')(x), heads(name='value')(x)
    if prefix is not None:
      prefix = prefix.astype(key.dtype)
      key = jnp.concatenate([prefix[:, 0], key], axis=1)
      value = jnp.concatenate([prefix[:, 1], value], axis=1)
    visible, num_tokens, num_keys = None, x.shape[1], key.shape[1]
    if self.causal:
      visible = jnp.tril(jnp.ones((num_tokens, num_keys), bool),
                         num_keys - num_tokens)[rows]
    mixed = attend(query, key, value, visible)
    return dense(features=width, axis=(-2, -1), name='out')(mixed)


class Mlp(nn.Module):
  """Two dense layers with a GELU between them."""

  hidden: int
  gelu: str
  dropout_rate: float
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: Array, *, train: bool) -> Array:
    dense = functools.partial(
        nn.Dense, dtype=self.dtype,
        kernel_init=nn.initializers.xavier_uniform(),
        bias_init=nn.initializers.normal(1e-6))
    hidden = dense(self.hidden, name='Dense_0')(x)
    hidden = GELUS[self.gelu](hidden)
    hidden = nn.Dropout(self.dropout_rate)(hidden, deterministic=not train)
    return dense(x.shape[-1], name='Dense_1')(hidden)


class Block(nn.Module):
  """Pre-norm transformer block; computes only the rows that are read."""

  num_heads: int
  mlp_dim: int
  traits: Traits
  dropout_rate: float
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: Array, prefix: Array | None, rows: slice, *,
               train: bool) -> Array:
    norm = functools.partial(self.traits.norm, dtype=self.dtype)
    drop = functools.partial(
        nn.Dropout(self.dropout_rate), deterministic=not train)
    mixed = Attention(
        self.num_heads, self.dtype, self.traits.causal,
        name='MultiHeadDotProductAttention_0')(
            norm('LayerNorm_0')(x), prefix, rows)
    x = x[:, rows] + drop(mixed)
    y = Mlp(self.mlp_dim, self.traits.gelu, self.dropout_rate, self.dtype,
            name='MlpBlock_0')(norm('LayerNorm_1')(x), train=train)
    return x + drop(y)
