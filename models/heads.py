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
"""Classification heads."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from models.prompts import matching

# timm cuts its normal distribution at -2 and 2, not at two deviations: with a
# deviation of 0.02 that cuts nothing.
KERNEL_INITS = {
    'zero': nn.initializers.zeros,
    'trunc_normal': nn.initializers.truncated_normal(
        0.02, lower=-100.0, upper=100.0),
}


class LinearHead(nn.Module):
  """Linear classifier over all classes of all tasks, in float32.

  Attributes:
    num_classes: C.
    normalize: divide features by their norm first (`norm_pre_logits`).
    temperature: logits are divided by it.
    kernel_init: key of `KERNEL_INITS`.

  Parameters: `kernel` [D, C] and `bias` [C]; the bias is 0 at the start.
  """

  num_classes: int
  normalize: bool = False
  temperature: float = 1.0
  kernel_init: str = 'zero'

  @nn.compact
  def __call__(self, features: jax.Array) -> jax.Array:
    """[B, D] -> logits [B, C]."""
    x = features.astype(jnp.float32)
    if self.normalize:
      x = x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-10)
    kernel = self.param('kernel', KERNEL_INITS[self.kernel_init],
                        (x.shape[-1], self.num_classes))
    bias = self.param('bias', nn.initializers.zeros, (self.num_classes,))
    return (x @ kernel + bias) / self.temperature


class CosineHead(nn.Module):
  """Cosine similarity with a vector for each class, times a factor, in float32.

  With the sentence embeddings of class names as vectors and CLIP's factor it is
  CLIP's zero-shot classifier.

  Attributes:
    num_classes: C.
    kernel_init: key of `KERNEL_INITS`.

  Parameters: `kernel` [E, C] of any length, and `scale` [], the logarithm of
  the factor.
  """

  num_classes: int
  kernel_init: str = 'zero'

  @nn.compact
  def __call__(self, features: jax.Array) -> jax.Array:
    """[B, E] -> logits [B, C]."""
    x = features.astype(jnp.float32)
    kernel = self.param('kernel', KERNEL_INITS[self.kernel_init],
                        (x.shape[-1], self.num_classes))
    scale = self.param('scale', nn.initializers.constant(math.log(1 / 0.07)),
                       ())
    return jnp.exp(scale) * matching.cosine(x, kernel.T)


HEADS = ('linear', 'cosine')


def create(config: Any, num_classes: int) -> nn.Module:
  """The head of a config, over `num_classes`."""
  if config.head == 'cosine':
    return CosineHead(num_classes, config.head_init)
  return LinearHead(num_classes, config.norm_pre_logits, config.temperature,
                    config.head_init)
