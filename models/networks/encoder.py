# SPDX-License-Identifier: Apache-2.0
"""The transformer between embeddings and features, and where prompts enter.

It asks `prompt_at(layer, tokens, carry) -> (LayerPrompt, carry)` before each
block, with the tokens as they are at that point.
"""

from collections.abc import Callable
import dataclasses
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from promptcl.models.networks import layers

Array = jax.Array


@flax.struct.dataclass
class LayerPrompt:
  """What one block receives.

  Attributes:
    tokens: [B, P, D] that enter before the block, see `Layout`, or None.
    prefix: [B, 2, P, H, D // H] put in front of the block's keys (index 0)
      and values (index 1) after their projections, or None.
  """

  tokens: Array | None = None
  prefix: Array | None = None


@dataclasses.dataclass(frozen=True)
class Layout:
  """Where tokens stand; the patches always come last.

  Attributes:
    num_prompts: P, prompt tokens among them.
    class_first: whether the class token precedes the prompts.
  """

  num_prompts: int = 0
  class_first: bool = False

  @property
  def class_token(self) -> int:
    """Row of the class token."""
    return 0 if self.class_first else self.num_prompts

  @property
  def prompts(self) -> slice:
    """Rows of the prompts."""
    return slice(int(self.class_first), self.num_prompts + self.class_first)

  @property
  def prompts_and_class(self) -> slice:
    """Rows of the prompts and of the class token beside them."""
    return slice(0, self.num_prompts + 1)


@flax.struct.dataclass
class Features:
  """What a pass hands out; XLA removes what nobody reads.

  Attributes:
    tokens: [B, R, D] output of the final norm at the rows that were read.
    block_inputs: tokens [B, T, D] as they enter each block, prompts included.
    layout: of the tokens that left the last block.
  """

  tokens: Array
  block_inputs: tuple[Array, ...]
  layout: Layout = flax.struct.field(pytree_node=False)


Carry = Any  # what prompts hand on from block to block
PromptAt = Callable[[int, Array, Carry], tuple[LayerPrompt, Carry]]
ReadRows = Callable[[Layout], slice]


def no_prompts(layer: int, tokens: Array, carry: Carry
               ) -> tuple[LayerPrompt, Carry]:
  """The `prompt_at` of the plain ViT."""
  del layer, tokens
  return LayerPrompt(), carry


def read_all(layout: Layout) -> slice:
  """Reads every token."""
  del layout
  return slice(None)


def read_class_token(layout: Layout) -> slice:
  """Reads the class token only, so the last block computes nothing else."""
  return slice(layout.class_token, layout.class_token + 1)


class Encoder(nn.Module):
  """Position table, blocks, final norm.

  Prompts of block 0 enter in front of the norm before it, where the family has
  one (`layers.Traits.pre_norm`).
  """

  depth: int
  num_heads: int
  mlp_dim: int
  traits: layers.Traits
  dropout_rate: float
  dtype: DTypeLike = jnp.float32
  num_positions: int = 0

  @nn.compact
  def __call__(self, x: Array, prompt_at: PromptAt, carry: Carry,
               read: ReadRows, *, train: bool) -> Features:
    x, rows = layers.PositionEmbedding(
        self.num_positions, name='posembed_input')(x)
    dropout = nn.Dropout(self.dropout_rate, deterministic=not train)
    x, block_inputs = dropout(x), []
    layout = Layout(class_first=rows is not None)
    for layer in range(self.depth):
      prompt, carry = prompt_at(layer, x, carry)
      if prompt.tokens is not None:
        tokens = prompt.tokens.astype(x.dtype)
        if rows is not None:
          tokens = dropout(_with_positions(tokens, rows, layer))
        x, layout = _insert(x, tokens, layout)
      if self.traits.pre_norm and not layer:
        x = self.traits.norm('encoder_pre_norm', self.dtype)(x)
      block_inputs.append(x)
      last = layer == self.depth - 1
      x = layers.Block(
          self.num_heads, self.mlp_dim, self.traits, self.dropout_rate,
          self.dtype, name=f'encoderblock_{layer}')(
              x, prompt.prefix, read(layout) if last else slice(None),
              train=train)
    x = self.traits.norm('encoder_norm', self.dtype)(x)
    return Features(x, tuple(block_inputs), layout)


def _with_positions(tokens: Array, rows: Array, layer: int) -> Array:
  """Adds the prompts' rows [1, P, D] of the position table."""
  if layer or tokens.shape[1] != rows.shape[1]:
    raise ValueError(
        f'{tokens.shape[1]} prompt tokens before block {layer}: positions were '
        f'made for {rows.shape[1]} before block 0')
  return tokens + rows.astype(tokens.dtype)


def _insert(x: Array, tokens: Array, layout: Layout) -> tuple[Array, Layout]:
  """Puts prompts [B, P, D] in front of the earlier ones of x [B, T, D]."""
  at = layout.prompts.start
  x = jnp.concatenate([x[:, :at], tokens, x[:, at:]], axis=1)
  return x, dataclasses.replace(
      layout, num_prompts=layout.num_prompts + tokens.shape[1])
