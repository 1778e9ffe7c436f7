# SPDX-License-Identifier: Apache-2.0
"""ConvPrompt: what the anchors' convolutions generate is the prefix itself.

Roy et al., Convolutional Prompting meets Language Models for Continual
Learning, CVPR 2024.  How many convolutions a task adds follows there from how
similar the language descriptions of its classes are to those of old ones; here
the numbers are given (`generation.anchors_by_task`).
"""

from promptcl.models.networks import vit
from promptcl.models.parts import base
from promptcl.models.parts import generated_method
from promptcl.models.parts import generation

OPTIONS = generated_method.OPTIONS
SMALL = generated_method.SMALL


class ConvPrompt(generation.Generated):
  """Generated prefixes of P = R tokens."""

  def prefix(self, place, generated, tokens, carry):
    del place, tokens, carry
    return generated


def build(config, backbone: vit.VisionTransformer, stream: base.StreamInfo
          ) -> base.Method:
  """ConvPrompt as `config.generation` describes it."""
  prompt = ConvPrompt(**generated_method.options(config, backbone, stream),
                      rows=config.generation.length)
  return generated_method.method(config, prompt, first_only=(),
                                 held=('shared', 'matcher'))
