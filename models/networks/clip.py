# SPDX-License-Identifier: Apache-2.0
"""CLIP: an image tower and a text tower that end in one space.

The image tower is the Vision Transformer of `vit.py` with CLIP's traits, so
prompts enter it as everywhere else.  The text tower is made of the same blocks,
and learned context vectors may enter it.

  model = backbones.create('CLIP-B_16', image_size=224)
  tokens = model(images, read=vit.read_class_token).tokens
  image = model.project(tokens)[:, 0]                # [B, E], not normalised
  text = model.encode_text(ids)                      # [N, E], not normalised
  logits = exp(embedding_scale) * unit(image) @ unit(text).T

Reference: Radford et al., 2021 (arXiv:2103.00020); openai/CLIP `clip/model.py`.
Leaf paths are those of `vit.py`, those of the text tower begin with `text/`;
`models/weights/clip_names.py` brings published names to them.
"""

from collections.abc import Callable
import dataclasses
import math
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from promptcl.models.networks import layers
from promptcl.models.networks import vit

Array = jax.Array
TEXT = 'text/'  # what leaf paths of the text tower begin with
SCALE = 'embedding_scale'
TRAITS = layers.Traits(gelu='quick', epsilon=1e-5, pre_norm=True,
                       patch_bias=False)


@dataclasses.dataclass(frozen=True)
class TextShape:
  """Geometry of a text tower.

  Attributes:
    width, depth, num_heads, mlp_dim: of its blocks.
    context_length: tokens at most, both ends of a sentence included.
    vocabulary: token ids.
  """

  width: int = 512
  depth: int = 12
  num_heads: int = 8
  mlp_dim: int = 2048
  context_length: int = 77
  vocabulary: int = 49408


class TextTower(nn.Module):
  """Sentences -> embeddings; each token sees itself and earlier ones.

  Attributes:
    shape: geometry.
    joint_width: E.
    traits: as those of the image tower; attention is causal in any case.
    dtype: of the computation; parameters stay float32.
  """

  shape: TextShape
  joint_width: int
  traits: layers.Traits
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, ids: Array, context: Array | None = None) -> Array:
    """Embeds sentences.

    The end token has the largest id; what follows it, padding of any id,
    changes nothing.  So a batch may be as short as its longest sentence.

    Args:
      ids: [N, T] int32, T up to `shape.context_length`.
      context: [n, D] or [N, n, D] learned vectors, which take the place of the
        embeddings of tokens 1 to n (Zhou et al., CoOp, 2022).

    Returns:
      [N, E], not normalised.
    """
    shape, length = self.shape, ids.shape[1]
    traits = dataclasses.replace(self.traits, causal=True)
    x = nn.Embed(shape.vocabulary, shape.width, dtype=self.dtype,
                 embedding_init=nn.initializers.normal(0.02),
                 name='token_embedding')(ids)
    if context is not None:
      x = with_context(x, context)
    table = self.param('pos_embedding', nn.initializers.normal(0.01),
                       (1, shape.context_length, shape.width))
    x = x + table[:, :length].astype(x.dtype)
    for layer in range(shape.depth):
      x = layers.Block(shape.num_heads, shape.mlp_dim, traits, 0.0, self.dtype,
                       name=f'encoderblock_{layer}')(
                           x, None, slice(None), train=False)
    ends = jnp.argmax(ids, axis=1)[:, None, None]
    x = jnp.take_along_axis(x, ends, axis=1)[:, 0]
    x = traits.norm('encoder_norm', self.dtype)(x)
    return _joint(self.joint_width, self.dtype, name='joint_embedding')(x)


def with_context(embeddings: Array, context: Array) -> Array:
  """Token embeddings [N, T, D] with [n, D] or [N, n, D] behind the first."""
  context = jnp.broadcast_to(
      context.astype(embeddings.dtype),
      (embeddings.shape[0], *context.shape[-2:]))
  rest = embeddings[:, 1 + context.shape[1]:]
  return jnp.concatenate([embeddings[:, :1], context, rest], axis=1)


def _joint(width: int, dtype: DTypeLike, name: str | None = None) -> nn.Dense:
  """The projection at the end of a tower."""
  return nn.Dense(width, use_bias=False, dtype=dtype, name=name)


class Clip(vit.VisionTransformer):
  """Both towers; as a backbone it is the image tower.

  Attributes:
    joint_width: E, of the space where images and sentences meet.
    text_shape: geometry of the text tower.

  Parameters beside those of the two towers: `embedding_scale` [], the logarithm
  of the factor of similarities (`logit_scale` in published files).
  """

  joint_width: int = 512
  text_shape: TextShape = TextShape()

  def setup(self) -> None:
    super().setup()
    self.joint_embedding = _joint(self.joint_width, self.dtype)
    self.text = TextTower(self.text_shape, self.joint_width, self.traits,
                          self.dtype)
    self.embedding_scale = self.param(
        SCALE, nn.initializers.constant(math.log(1 / 0.07)), ())

  def embed(self, images: Array) -> Array:
    """Patch embeddings [B, N, D], before class token and positions."""
    if self.is_initializing():  # nobody may ask for these on the way
      self.encode_text(jnp.zeros((1, 1), jnp.int32))
      self.project(jnp.zeros((1, self.width)))
    return super().embed(images)

  def project(self, tokens: Array) -> Array:
    """Output tokens [..., D] -> [..., E] of the joint space."""
    return self.joint_embedding(tokens)

  def encode_text(self, ids: Array, context: Array | None = None) -> Array:
    """Sentences [N, T] -> [N, E], see `TextTower`."""
    return self.text(ids, context)

  def text_reader(self) -> Callable[..., Array]:
    """`encode_text` as a plain function, for use in loops and branches."""
    tower, variables = self.text.clone(parent=None), self.text.variables
    return lambda ids, context=None: tower.apply(variables, ids, context)


@dataclasses.dataclass(frozen=True)
class Variant(vit.Variant):
  """Geometry of a published pair of towers."""

  module: ClassVar[type[vit.VisionTransformer]] = Clip
  traits: layers.Traits = TRAITS
  joint_width: int = 512
  text_shape: TextShape = TextShape()


VARIANTS = {
    'CLIP-B_16': Variant(16, 768, 12, 12, 3072),
    'CLIP-B_32': Variant(32, 768, 12, 12, 3072),
    # Made by tools/pretrain_letters_clip.py; its tokens are characters.
    'CLIP-letters': Variant(
        4, 64, 4, 4, 256, joint_width=64, text_shape=TextShape(
            width=64, depth=2, num_heads=4, mlp_dim=256, vocabulary=31)),
    # Its vocabulary is that of 30 merges.
    'CLIP-testing': Variant(
        4, 16, 2, 2, 32, joint_width=16, text_shape=TextShape(
            width=12, depth=1, num_heads=3, mlp_dim=24, vocabulary=544)),
}
