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
"""ConvPrompt: what the anchors' convolutions generate is the prefix itself.

Roy et al., Convolutional Prompting meets Language Models for Continual
Learning, CVPR 2024.  How many convolutions a task adds follows there from how
similar the language descriptions of its classes are to those of old ones; here
the numbers are given (`generation.anchors_by_task`).
"""

from models import vit
from models.prompts import base
from models.prompts import generated_method
from models.prompts import generation


class ConvPrompt(generation.Generated):
  """Generated prefixes of P = R tokens."""

  def prefix(self, place, generated, tokens, carry):
    del place, tokens, carry
    return generated


def build(config, backbone: vit.VisionTransformer) -> base.Method:
  """ConvPrompt as `config.generation` describes it."""
  prompt = ConvPrompt(**generated_method.options(config, backbone),
                      rows=config.generation.length)
  return generated_method.method(config, prompt, first_only=(),
                                 held=('shared', 'matcher'))
