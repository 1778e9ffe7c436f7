# SPDX-License-Identifier: Apache-2.0
"""Classification heads."""

from collections.abc import Sequence
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from ml_collections import ConfigDict
import numpy as np

from promptcl.models.heads import sentence_head
from promptcl.models.networks import similarity as similarity_lib
from promptcl.models.networks import vit
from promptcl.models.parts.method import Rate


def _torch_uniform(key: jax.Array, shape: tuple[int, ...],
                   dtype: DTypeLike = jnp.float32) -> jax.Array:
  """As torch's Linear starts: within the inverse root of the inputs [0]."""
  bound = 1 / math.sqrt(shape[0])
  return jax.random.uniform(key, shape, dtype, -bound, bound)


# timm cuts its normal distribution at -2 and 2, not at two deviations: with a
# deviation of 0.02 that cuts nothing.
KERNEL_INITS = {
    'zero': nn.initializers.zeros,
    'trunc_normal': nn.initializers.truncated_normal(
        0.02, lower=-100.0, upper=100.0),
    'torch_uniform': _torch_uniform,
}


class LinearHead(nn.Module):
  """Linear classifier over all classes of all tasks, in float32.

  Attributes:
    num_classes: C.
    normalize: divide features by their norm first (`norm_pre_logits`).
    temperature: logits are divided by it.
    kernel_init: key of `KERNEL_INITS`.

  Parameters: `kernel` [D, C] and `bias` [C]; the bias is 0 at the start, but
  with `torch_uniform` it is drawn as the kernel is.
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
    bias = self.param('bias', self._bias_init(kernel.shape),
                      (self.num_classes,))
    return (x @ kernel + bias) / self.temperature

  def _bias_init(self, shape: tuple[int, ...]) -> nn.initializers.Initializer:
    """Start values of the bias beside a kernel of that shape."""
    if self.kernel_init != 'torch_uniform':
      return nn.initializers.zeros
    return lambda key, _: _torch_uniform(key, shape)[0]

  def rates(self) -> tuple[Rate, ...]:
    """All columns train in all tasks, as far as the loss sees them."""
    return ()


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
    return jnp.exp(scale) * similarity_lib.cosine(x, kernel.T)

  def rates(self) -> tuple[Rate, ...]:
    """As those of `LinearHead`."""
    return ()


class CentroidHead(CosineHead):
  """The nearest of some centroids per class, where a class has them.

  Attributes:
    num_centroids: K.

  Parameters beside those of `CosineHead`, which speak for classes without
  centroids: `centroids` [C, K, E], 0 for such a class.  No gradient moves them.
  """

  num_centroids: int = 1

  @nn.compact
  def __call__(self, features: jax.Array) -> jax.Array:
    """[B, E] -> logits [B, C]."""
    logits = super().__call__(features)
    x = similarity_lib.l2_normalize(features.astype(jnp.float32))
    centroids = jax.lax.stop_gradient(self.param(
        'centroids', nn.initializers.zeros,
        (self.num_classes, self.num_centroids, x.shape[-1])))
    scale = self.get_variable('params', 'scale')
    cosine = jnp.max(jnp.einsum(
        'be,cke->bck', x, similarity_lib.l2_normalize(centroids)), axis=-1)
    return jnp.where(jnp.any(centroids != 0, axis=(1, 2)),
                     jnp.exp(scale) * cosine, logits)

  def rates(self) -> tuple[Rate, ...]:
    """Centroids rest in steps."""
    return (('head/centroids', lambda task: 0.0),)


class TaskHeads(nn.Module):
  """A LayerNorm and a linear classifier of its own for each task, in float32.

  The heads stand side by side; a head trains while the task has classes of it.

  Attributes:
    sizes: classes of each head.
    temperature, kernel_init: see `LinearHead`.

  Parameters: `kernel` [D, C] and `bias` [C] of all heads; `scale` and `offset`
  [T, D] of their LayerNorms.
  """

  sizes: tuple[int, ...]
  temperature: float = 1.0
  kernel_init: str = 'trunc_normal'

  @nn.compact
  def __call__(self, features: jax.Array) -> jax.Array:
    """[B, D] -> logits [B, C]."""
    x = features.astype(jnp.float32)
    width, shape = x.shape[-1], (len(self.sizes), x.shape[-1])
    kernel = self.param('kernel', KERNEL_INITS[self.kernel_init],
                        (width, sum(self.sizes)))
    bias = self.param('bias', nn.initializers.zeros, (sum(self.sizes),))
    scale = self.param('scale', nn.initializers.ones, shape)
    offset = self.param('offset', nn.initializers.zeros, shape)
    # The heads normalise alike, so scale and offset go into the linear map.
    x = nn.LayerNorm(epsilon=1e-5, use_bias=False, use_scale=False)(x)
    scale, offset = scale[self._owner].T, offset[self._owner].T
    bias = bias + jnp.sum(kernel * offset, axis=0)
    return (x @ (kernel * scale) + bias) / self.temperature

  @property
  def _owner(self) -> np.ndarray:
    """Head of each class, int [C]."""
    return np.repeat(np.arange(len(self.sizes)), self.sizes)

  def rates(self) -> tuple[Rate, ...]:
    """Heads without a class of the task rest."""
    heads = np.eye(len(self.sizes), dtype=bool)[:, self._owner]
    trains = lambda task: jnp.any(heads & task.class_mask, axis=1)
    return (('head/kernel|head/bias', lambda task: trains(task)[self._owner]),
            ('head/scale|head/offset', lambda task: trains(task)[:, None]))


HEADS = ('linear', 'cosine', 'centroids', 'sentences')
Head = LinearHead | CosineHead | TaskHeads | sentence_head.SentenceHead


def create(config: ConfigDict, num_classes: int,
           backbone: vit.VisionTransformer | None = None,
           class_names: Sequence[str] = ()) -> Head:
  """The head of `config` over `num_classes`.

  Args:
    config: reads `head` and what each kind of head needs.
    num_classes: C.
    backbone: whose text tower the head `sentences` asks.
    class_names: by column; () if the head will not be trained or scored.

  Raises:
    ValueError: the classes do not divide into heads, or a head without what it
      needs.
  """
  if config.head != 'linear' and config.task_heads:
    raise ValueError('config.task_heads has linear heads: set config.head '
                     'to linear')
  if config.head == 'centroids':
    return CentroidHead(num_classes, config.head_init, config.head_centroids)
  if config.head == 'cosine':
    return CosineHead(num_classes, config.head_init)
  if config.head == 'sentences':
    return sentence_head.create(
        config, backbone, class_names,
        head_sizes(config.continual, num_classes, key='head sentences'))
  if not config.task_heads:
    return LinearHead(num_classes, config.norm_pre_logits, config.temperature,
                      config.head_init)
  if config.norm_pre_logits:
    raise ValueError('config.norm_pre_logits has no effect before the '
                     'LayerNorms of task_heads; set it to False')
  return TaskHeads(head_sizes(config.continual, num_classes),
                   config.temperature, config.head_init)


def head_sizes(continual: ConfigDict, num_classes: int, *,
               key: str = 'task_heads') -> tuple[int, ...]:
  """Classes of each task's head; one head if all tasks have all classes.

  Raises:
    ValueError: see `create`.
  """
  if continual.scenario == 'domain' and continual.domain_outputs == 'shared':
    return (num_classes,)
  first, more = continual.init_cls, continual.inc_cls
  if first:
    ends = [0, *range(first, num_classes, more), num_classes]
    return tuple(np.diff(ends).tolist())
  if num_classes % continual.num_tasks:
    raise ValueError(f'config.{key}: {num_classes} classes do not divide '
                     f'into {continual.num_tasks} heads')
  return (num_classes // continual.num_tasks,) * continual.num_tasks
