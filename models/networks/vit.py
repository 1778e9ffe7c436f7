# SPDX-License-Identifier: Apache-2.0
"""Vision Transformer that accepts prompts before and inside every block.

The backbone knows no method by name.  Whoever calls it may pass
`prompt_at(layer, tokens, carry) -> (LayerPrompt, carry)`; it is asked once
before each block and sees the tokens as they are at that point.

  vit = create('ViT-B_16', image_size=224)
  patches = vit.embed(images)                       # [B, N, D]
  features = vit.encode(patches, prompt_at=my_prompts)

Prompt tokens stand in front of the class token and have no positions, unless
the backbone was made with `num_positions`: then that many enter block 0 behind
the class token, each with a row of a lengthened position table.

Reference: Dosovitskiy et al., 2021 (arXiv:2010.11929); parameter names and
shapes are those of the `ViT-B_16.npz` family, so its files load unchanged.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from promptcl.models.networks import encoder
from promptcl.models.networks import layers
from promptcl.models.networks.encoder import Features
from promptcl.models.networks.encoder import LayerPrompt
from promptcl.models.networks.encoder import Layout
from promptcl.models.networks.encoder import no_prompts
from promptcl.models.networks.encoder import PromptAt
from promptcl.models.networks.encoder import read_all
from promptcl.models.networks.encoder import read_class_token
from promptcl.models.networks.encoder import ReadRows

__all__ = [
    'create', 'Features', 'LayerPrompt', 'Layout', 'no_prompts', 'PromptAt',
    'read_all', 'read_class_token', 'ReadRows', 'Variant', 'VARIANTS',
    'VisionTransformer']

Array = jax.Array


class VisionTransformer(nn.Module):
  """ViT in two halves, so that prompts can be chosen between them.

  Attributes:
    patch_size, width, depth, num_heads, mlp_dim: geometry.
    image_size: side of the square input, pixels; fixes the position table.
    traits: of the family.
    dropout_rate: in training, as the published variant has it.
    dtype: of the computation; parameters stay float32.
    num_positions: prompt tokens that have positions, see the module's text.
  """

  patch_size: int
  width: int
  depth: int
  num_heads: int
  mlp_dim: int
  image_size: int
  traits: layers.Traits = layers.Traits()
  dropout_rate: float = 0.0
  dtype: DTypeLike = jnp.float32
  num_positions: int = 0

  def setup(self) -> None:
    self.embedding = layers.PatchEmbedding(
        self.patch_size, self.width, self.dtype, self.traits.patch_bias)
    self.cls = self.param('cls', nn.initializers.zeros, (1, 1, self.width))
    self.encoder = encoder.Encoder(
        self.depth, self.num_heads, self.mlp_dim, self.traits,
        self.dropout_rate, self.dtype, self.num_positions, name='Transformer')

  def embed(self, images: Array) -> Array:
    """Patch embeddings [B, N, D], before class token and positions."""
    return self.embedding(images)

  def encode(self, patches: Array, *, prompt_at: PromptAt = no_prompts,
             carry: encoder.Carry = None, read: ReadRows = read_all,
             train: bool = False) -> Features:
    """Runs the blocks over the class token and `patches` [B, N, D].

    Args:
      patches: output of `embed`.
      prompt_at: asked before each block, see `LayerPrompt`.
      carry: handed to `prompt_at` at block 0; later blocks get what it
        returned.
      read: which rows of the output are wanted, as a function of where the
        tokens stand; the last block computes no others.
      train: whether dropout is active (needs an rng named `dropout`).
    """
    cls = jnp.broadcast_to(
        self.cls.astype(patches.dtype), (patches.shape[0], 1, self.width))
    x = jnp.concatenate([cls, patches], axis=1)
    return self.encoder(x, prompt_at, carry, read, train=train)

  def project(self, tokens: Array) -> Array:
    """Output tokens [..., D] -> [..., E], what a head sees: here the same.

    A backbone with a second tower brings them to the space of both.
    """
    return tokens

  def __call__(self, images: Array, **kwargs: Any) -> Features:
    return self.encode(self.embed(images), **kwargs)


@dataclasses.dataclass(frozen=True)
class Variant:
  """Geometry and family traits of a published backbone.

  Attributes:
    module: class that takes them.
  """

  module: ClassVar[type[VisionTransformer]] = VisionTransformer
  patch_size: int
  width: int
  depth: int
  num_heads: int
  mlp_dim: int
  traits: layers.Traits = layers.Traits()
  dropout_rate: float = 0.0

  @property
  def exact_gelu(self) -> bool:
    """Whether it has the error-function GELU."""
    return self.traits.gelu == 'exact'


_EXACT = layers.Traits(gelu='exact')
VARIANTS = {
    'ViT-Ti_16': Variant(16, 192, 12, 3, 768),
    'ViT-S_16': Variant(16, 384, 12, 6, 1536),
    'ViT-B_16': Variant(16, 768, 12, 12, 3072),
    'ViT-B_32': Variant(32, 768, 12, 12, 3072),
    'ViT-L_16': Variant(16, 1024, 24, 16, 4096, dropout_rate=0.1),
    'ViT-L_32': Variant(32, 1024, 24, 16, 4096),
    'ViT-H_14': Variant(14, 1280, 32, 16, 5120, dropout_rate=0.1),
    'DeiT-Ti_16': Variant(16, 192, 12, 3, 768, _EXACT),
    'DeiT-S_16': Variant(16, 384, 12, 6, 1536, _EXACT),
    'DeiT-B_16': Variant(16, 768, 12, 12, 3072, _EXACT),
    'ViT-digits': Variant(4, 128, 4, 4, 512),
    'testing': Variant(4, 16, 3, 2, 32),
}


def create(name: str, *, image_size: int, dtype: DTypeLike = jnp.float32,
           variants: Mapping[str, Variant] = VARIANTS) -> VisionTransformer:
  """Builds the named variant.

  Args:
    name: key of `variants`; `backbones.py` knows those of all files.
    image_size: side of the input, pixels.
    dtype: of the computation.
    variants: where the name is looked up.

  Raises:
    ValueError: unknown name, or an image smaller than one patch.
  """
  if name not in variants:
    raise ValueError(f'model_name {name!r} is unknown, have {sorted(variants)}')
  variant = variants[name]
  if image_size < variant.patch_size:
    raise ValueError(f'input_size {image_size} is smaller than one patch '
                     f'({variant.patch_size}) of {name}')
  fields = {f.name: getattr(variant, f.name)
            for f in dataclasses.fields(variant)}
  return variant.module(**fields, image_size=image_size, dtype=dtype)
