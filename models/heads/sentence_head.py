# SPDX-License-Identifier: Apache-2.0
"""Classes as sentences that begin with learned words.

  head = SentenceHead(ids, sizes=(10, 10), width=512, joint_width=512)
  vectors = head.vectors(backbone.text_reader())      # [C, E]
  logits = head(features, factor * vectors)           # [B, C]

Only the words learn; the text tower that reads them is the backbone's.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from promptcl.models.networks import clip
from promptcl.models.networks import similarity as similarity_lib
from promptcl.models.networks import vit
from promptcl.models.parts.method import Rate

Array = jax.Array
CONTEXT = 'head/context'


class SentenceHead(nn.Module):
  """Cosine similarity with a sentence per class, in float32.

  The classes of a task share their context (Zhou et al., CoOp, 2022; one
  context per task as in S-Prompts, Wang et al., 2022).

  Attributes:
    ids: C rows of T token ids; the context takes the places 1 to n.
    sizes: classes of each task, in the order of the columns.
    width: of the text tower.
    joint_width: E.
    length: n, tokens of context.

  Parameters: `context` [tasks, n, width].
  """

  ids: tuple[tuple[int, ...], ...]
  sizes: tuple[int, ...]
  width: int
  joint_width: int
  length: int = 16

  def setup(self) -> None:
    self.context = self.param('context', nn.initializers.normal(0.02), (
        len(self.sizes), self.length, self.width))

  def __call__(self, features: Array, vectors: Array) -> Array:
    """Features [B, E], vectors [C, E] of any common length -> [B, C]."""
    return similarity_lib.l2_normalize(features.astype(jnp.float32)) @ vectors.T

  def vectors(self, read: Callable[[Array, Array], Array],
              classes: Array | None = None) -> Array:
    """Directions of classes, [C, E] float32 of length 1.

    Tasks are read one after the other and anew in the backward pass, so that
    activations are those of one.

    Args:
      read: ids [K, T] and context [n, width] -> [K, E].
      classes: bool, [C] or [B, C] for images of their own; a task without any
        of them is not read, its vectors are 0.  None for all.
    """
    rows, columns = self._places()
    wanted = np.ones(len(self.sizes), bool)
    if classes is not None:
      asked = jnp.any(classes.reshape(-1, len(self.ids)), axis=0)
      wanted = jnp.any(self._owners() & asked, axis=1)

    def one(_, task):
      ids, context, asked = task
      return None, jax.lax.cond(
          asked, lambda: similarity_lib.l2_normalize(
              read(ids, context).astype(jnp.float32)),
          lambda: jnp.zeros((len(ids), self.joint_width)))

    ids = np.asarray(self.ids, np.int32)[rows]
    _, found = jax.lax.scan(jax.checkpoint(one, prevent_cse=False), None,
                            (ids, self.context, wanted))
    return found.reshape(-1, self.joint_width)[columns]

  def _owners(self) -> np.ndarray:
    """Which classes a task has, bool [tasks, C]."""
    owner = np.repeat(np.arange(len(self.sizes)), self.sizes)
    return np.arange(len(self.sizes))[:, None] == owner

  def _places(self) -> tuple[np.ndarray, np.ndarray]:
    """Classes by task [tasks, K], smaller tasks padded, and how to undo it."""
    sizes = np.asarray(self.sizes)
    number = np.arange(max(self.sizes))
    starts = np.cumsum(sizes) - sizes
    real = number < sizes[:, None]
    return (starts[:, None] + np.where(real, number, 0),
            np.flatnonzero(real))

  def rates(self) -> tuple[Rate, ...]:
    """Contexts without a class of the task rest."""
    owners = self._owners()
    return ((CONTEXT, lambda task: jnp.any(
        owners & task.class_mask, axis=1)[:, None, None]),)


def create(config: ConfigDict, backbone: vit.VisionTransformer | None,
           class_names: Sequence[str], sizes: Sequence[int]) -> SentenceHead:
  """The head over named classes; without names sentences mean nothing.

  Raises:
    ValueError: a backbone without text tower, no room for the context.
    FileNotFoundError, ValueError: see `text.name_ids`.
  """
  if not isinstance(backbone, clip.Clip):
    raise ValueError('config.head sentences needs a text tower: model_name '
                     f'{config.model_name} is none of CLIP-*')
  shape, length = backbone.text_shape, config.text.context_tokens
  if length + 3 > shape.context_length:  # start, a name, end
    raise ValueError(f'config.text.context_tokens {length} leaves no room for '
                     f'a name among {shape.context_length} tokens')
  if class_names:
    from promptcl.models.networks import text  # needs tokenizers
    ids = text.name_ids(config, shape, class_names)
  else:
    ids = _nameless(sum(sizes), length, shape.vocabulary)
  return SentenceHead(
      tuple(map(tuple, ids.tolist())), tuple(map(int, sizes)), shape.width,
      backbone.joint_width, length)


def _nameless(num_classes: int, length: int, vocabulary: int) -> np.ndarray:
  """Sentences of one word each, where nobody will look at it."""
  ids = np.zeros((num_classes, length + 3), np.int32)
  ids[:, 0], ids[:, -1] = vocabulary - 2, vocabulary - 1
  ids[:, -2] = np.arange(num_classes) % (vocabulary - 2)
  return ids
