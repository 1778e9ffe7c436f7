# SPDX-License-Identifier: Apache-2.0
"""VPT-shallow: one prompt that all images of all tasks share.

Tokens that enter before the first block, in front of the class token and
without positions.  Jia et al., Visual Prompt Tuning (ECCV 2022), as the image
prompt of CLIP-PGP (Qiao et al., ICLR 2024) has it: start values are uniform
within +-1 / sqrt(D).  On CLIP, `config.head = 'sentences'` learns context in
front of class names beside it.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from promptcl.models.networks import vit
from promptcl.models.parts import base
from promptcl.models.parts import options

Array = jax.Array
OPTIONS = options.Section('vpt', {'length': 10}, positive=('length',))
SMALL = {'vpt.length': 3}


def _within(bound: float) -> nn.initializers.Initializer:
  """Uniform in [-bound, bound)."""
  return lambda key, shape: jax.random.uniform(
      key, shape, minval=-bound, maxval=bound)


class SharedPrompt(base.Prompt):
  """The same tokens for every image.

  Attributes:
    length: P.
    width: D.

  Parameters: `tokens` [P, D].
  """

  length: int
  width: int

  def setup(self):
    self.tokens = self.param(
        'tokens', _within(self.width**-0.5), (self.length, self.width))

  @property
  def has_tokens(self) -> bool:
    return True

  @property
  def spaces(self) -> tuple[base.Space, ...]:
    return (base.Space('sequence', 'sequence', (('prompt/tokens', ()),)),)

  def at_layer(self, layer, tokens, carry):
    if layer:
      return vit.LayerPrompt(), carry
    return vit.LayerPrompt(tokens=jnp.broadcast_to(
        self.tokens, (len(tokens), *self.tokens.shape))), carry


def build(config, backbone: vit.VisionTransformer, stream: base.StreamInfo
          ) -> base.Method:
  """The shared prompt that `config.vpt` describes."""
  del stream
  return base.Method(SharedPrompt(config.vpt.length, backbone.width))
