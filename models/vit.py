# Copyright 2026 The JAX Continual Prompting Authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Vision Transformer that accepts prompts before and inside every block.

The backbone knows no method by name.  Whoever calls it may pass
`prompt_at(layer, tokens, carry) -> (LayerPrompt, carry)`; it is asked once
before each block and sees the tokens as they are at that point.

  vit = create('ViT-B_16', image_size=224)
  patches = vit.embed(images)                       # [B, N, D]
  features = vit.encode(patches, prompt_at=my_prompts)

Reference: Dosovitskiy et al., 2021 (arXiv:2010.11929); parameter names and
shapes are those of the `ViT-B_16.npz` family, so its files load unchanged.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp

Array = jax.Array


@flax.struct.dataclass
class LayerPrompt:
  """What one block receives.

  Attributes:
    tokens: [B, P, D] put in front of all tokens before the block, or None.
    prefix: [B, 2, P, H, D // H] put in front of the block's keys (index 0)
      and values (index 1) after their projections, or None.
  """

  tokens: Array | None = None
  prefix: Array | None = None


@flax.struct.dataclass
class Features:
  """What a pass hands out; XLA removes what nobody reads.

  Attributes:
    tokens: [B, R, D] output of the final norm at the rows that were read.
    block_inputs: tokens [B, T, D] as they enter each block, prompts included.
    num_prompts: how many prompt tokens stand in front of the class token.
  """

  tokens: Array
  block_inputs: tuple[Array, ...]
  num_prompts: int = flax.struct.field(pytree_node=False)


PromptAt = Callable[[int, Array, Any], tuple[LayerPrompt, Any]]
ReadRows = Callable[[int], slice]  # number of prompt tokens -> rows to read


def no_prompts(layer: int, tokens: Array, carry: Any):
  """The `prompt_at` of the plain ViT."""
  del layer, tokens
  return LayerPrompt(), carry


def read_all(num_prompts: int) -> slice:
  """Reads every token."""
  del num_prompts
  return slice(None)


def read_class_token(num_prompts: int) -> slice:
  """Reads the class token only, so the last block computes nothing else."""
  return slice(num_prompts, num_prompts + 1)


class PatchEmbedding(nn.Module):
  """Cuts images into patches and projects them, row by row.

  A stride-p convolution written as one matrix product, which is faster than
  the convolution on CPU (its kernel gradient by far) and equal elsewhere.
  """

  patch_size: int
  width: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, images: Array) -> Array:
    """images [B, h, w, C] -> [B, N, D] with N = (h // p) * (w // p)."""
    p = self.patch_size
    batch, height, width, channels = images.shape
    kernel = self.param(
        'kernel', nn.initializers.lecun_normal(in_axis=(0, 1, 2)),
        (p, p, channels, self.width))
    bias = self.param('bias', nn.initializers.zeros, (self.width,))
    images = images[:, :height // p * p, :width // p * p]
    x = images.reshape(batch, height // p, p, width // p, p, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, -1, p * p * channels)
    kernel = kernel.reshape(-1, self.width)
    return jnp.dot(x.astype(self.dtype), kernel.astype(self.dtype)) + (
        bias.astype(self.dtype))


class PositionEmbedding(nn.Module):
  """Adds the learned position table [1, 1 + N, D]; row 0: class token."""

  @nn.compact
  def __call__(self, x: Array) -> Array:
    table = self.param('pos_embedding', nn.initializers.normal(0.02),
                       (1,) + x.shape[1:])
    return x + table.astype(x.dtype)


def attend(query: Array, key: Array, value: Array) -> Array:
  """Softmax attention: query [B, R, H, d], key and value [B, T, H, d].

  Written out because `jax.nn.dot_product_attention` took 8 to 15 % longer for
  forward and backward on CPU, where the tests and the offline default run.

  Returns:
    [B, R, H, d] in the dtype of the values; the softmax is in float32.
  """
  query = query * query.shape[-1]**-0.5
  logits = jnp.einsum('bqhd,bkhd->bhqk', query, key,
                      preferred_element_type=jnp.float32)
  weights = jax.nn.softmax(logits, axis=-1).astype(value.dtype)
  return jnp.einsum('bhqk,bkhd->bqhd', weights, value)


class Attention(nn.Module):
  """Multi-head self-attention with an optional key/value prefix.

  Prefix tuning (Li & Liang, 2021): the prefix joins keys and values after
  their projections, so it costs no query rows.
  """

  num_heads: int
  dtype: Any = jnp.float32

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
    mixed = attend(query, key, value)
    return dense(features=width, axis=(-2, -1), name='out')(mixed)


class Mlp(nn.Module):
  """Two dense layers with a GELU between them."""

  hidden: int
  exact_gelu: bool
  dropout_rate: float
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array, *, train: bool) -> Array:
    dense = functools.partial(
        nn.Dense, dtype=self.dtype,
        kernel_init=nn.initializers.xavier_uniform(),
        bias_init=nn.initializers.normal(1e-6))
    hidden = dense(self.hidden, name='Dense_0')(x)
    hidden = nn.gelu(hidden, approximate=not self.exact_gelu)
    hidden = nn.Dropout(self.dropout_rate)(hidden, deterministic=not train)
    return dense(x.shape[-1], name='Dense_1')(hidden)


class Block(nn.Module):
  """Pre-norm transformer block; computes only the rows that are read."""

  num_heads: int
  mlp_dim: int
  exact_gelu: bool
  dropout_rate: float
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array, prefix: Array | None, rows: slice, *,
               train: bool) -> Array:
    norm = functools.partial(nn.LayerNorm, epsilon=1e-6, dtype=self.dtype)
    drop = functools.partial(
        nn.Dropout(self.dropout_rate), deterministic=not train)
    mixed = Attention(
        self.num_heads, self.dtype, name='MultiHeadDotProductAttention_0')(
            norm(name='LayerNorm_0')(x), prefix, rows)
    x = x[:, rows] + drop(mixed)
    y = Mlp(self.mlp_dim, self.exact_gelu, self.dropout_rate, self.dtype,
            name='MlpBlock_0')(norm(name='LayerNorm_1')(x), train=train)
    return x + drop(y)


class Encoder(nn.Module):
  """Position table, blocks, final norm."""

  depth: int
  num_heads: int
  mlp_dim: int
  exact_gelu: bool
  dropout_rate: float
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array, prompt_at: PromptAt, carry: Any,
               read: ReadRows, *, train: bool) -> Features:
    x = PositionEmbedding(name='posembed_input')(x)
    x = nn.Dropout(self.dropout_rate)(x, deterministic=not train)
    num_prompts, block_inputs = 0, []
    for layer in range(self.depth):
      prompt, carry = prompt_at(layer, x, carry)
      if prompt.tokens is not None:
        x = jnp.concatenate([prompt.tokens.astype(x.dtype), x], axis=1)
        num_prompts += prompt.tokens.shape[1]
      block_inputs.append(x)
      last = layer == self.depth - 1
      x = Block(self.num_heads, self.mlp_dim, self.exact_gelu,
                self.dropout_rate, self.dtype, name=f'encoderblock_{layer}')(
                    x, prompt.prefix,
                    read(num_prompts) if last else slice(None), train=train)
    x = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name='encoder_norm')(x)
    return Features(x, tuple(block_inputs), num_prompts)


class VisionTransformer(nn.Module):
  """ViT in two halves, so that prompts can be chosen between them.

  Attributes:
    patch_size, width, depth, num_heads, mlp_dim: geometry.
    image_size: side of the square input, pixels; fixes the position table.
    exact_gelu: error-function GELU (timm, DeiT) instead of the tanh form
      (original family).
    dropout_rate: in training, as the published variant has it.
    dtype: of the computation; parameters stay float32.
  """

  patch_size: int
  width: int
  depth: int
  num_heads: int
  mlp_dim: int
  image_size: int
  exact_gelu: bool = False
  dropout_rate: float = 0.0
  dtype: Any = jnp.float32

  def setup(self):
    self.embedding = PatchEmbedding(self.patch_size, self.width, self.dtype)
    self.cls = self.param('cls', nn.initializers.zeros, (1, 1, self.width))
    self.encoder = Encoder(
        self.depth, self.num_heads, self.mlp_dim, self.exact_gelu,
        self.dropout_rate, self.dtype, name='Transformer')

  def embed(self, images: Array) -> Array:
    """Patch embeddings [B, N, D], before class token and positions."""
    return self.embedding(images)

  def encode(self, patches: Array, *, prompt_at: PromptAt = no_prompts,
             carry: Any = None, read: ReadRows = read_all,
             train: bool = False) -> Features:
    """Runs the blocks over the class token and `patches` [B, N, D].

    Args:
      patches: output of `embed`.
      prompt_at: asked before each block, see `LayerPrompt`.
      carry: handed to `prompt_at` at block 0; later blocks get what it
        returned.
      read: which rows of the output are wanted, as a function of the number
        of prompt tokens in front; the last block computes no others.
      train: whether dropout is active (needs an rng named `dropout`).
    """
    cls = jnp.broadcast_to(
        self.cls.astype(patches.dtype), (patches.shape[0], 1, self.width))
    x = jnp.concatenate([cls, patches], axis=1)
    return self.encoder(x, prompt_at, carry, read, train=train)

  def __call__(self, images: Array, **kwargs) -> Features:
    return self.encode(self.embed(images), **kwargs)


@dataclasses.dataclass(frozen=True)
class Variant:
  """Geometry and family traits of a published backbone."""

  patch_size: int
  width: int
  depth: int
  num_heads: int
  mlp_dim: int
  exact_gelu: bool = False
  dropout_rate: float = 0.0


VARIANTS = {
    'ViT-Ti_16': Variant(16, 192, 12, 3, 768),
    'ViT-S_16': Variant(16, 384, 12, 6, 1536),
    'ViT-B_16': Variant(16, 768, 12, 12, 3072),
    'ViT-B_32': Variant(32, 768, 12, 12, 3072),
    'ViT-L_16': Variant(16, 1024, 24, 16, 4096, dropout_rate=0.1),
    'ViT-L_32': Variant(32, 1024, 24, 16, 4096),
    'ViT-H_14': Variant(14, 1280, 32, 16, 5120, dropout_rate=0.1),
    'DeiT-Ti_16': Variant(16, 192, 12, 3, 768, exact_gelu=True),
    'DeiT-S_16': Variant(16, 384, 12, 6, 1536, exact_gelu=True),
    'DeiT-B_16': Variant(16, 768, 12, 12, 3072, exact_gelu=True),
    'ViT-digits': Variant(4, 128, 4, 4, 512),
    'testing': Variant(4, 16, 3, 2, 32),
}


def create(name: str, *, image_size: int, dtype: Any = jnp.float32
           ) -> VisionTransformer:
  """Builds the named variant.

  Args:
    name: key of `VARIANTS`.
    image_size: side of the input, pixels.
    dtype: of the computation.

  Raises:
    ValueError: unknown name, or an image smaller than one patch.
  """
  if name not in VARIANTS:
    raise ValueError(f'model_name {name!r} is unknown, have {sorted(VARIANTS)}')
  variant = VARIANTS[name]
  if image_size < variant.patch_size:
    raise ValueError(f'input_size {image_size} is smaller than one patch '
                     f'({variant.patch_size}) of {name}')
  return VisionTransformer(
      **dataclasses.asdict(variant), image_size=image_size, dtype=dtype)
