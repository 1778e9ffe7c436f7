# SPDX-License-Identifier: Apache-2.0
"""What a text tower is told of classes, and its embeddings of that.

  ids = class_ids(config, backbone.text_shape, class_names)     # [C, M, T]
  embeddings = class_embeddings(backbone, params, ids)          # [C, E]
  ids = name_ids(config, backbone.text_shape, class_names)      # [C, T]
"""

from collections.abc import Mapping, Sequence
import os

from flax import traverse_util
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from promptcl.models.networks import clip
from promptcl.models.networks import similarity
from promptcl.models.networks import templates
from promptcl.models.networks import tokenizer as tokenizer_lib

_AT_ONCE = 256  # sentences
_STEP = 16  # sentences are as long as the longest, rounded up to this
_PLACE = 'X'  # a word of one token


def class_ids(config: ConfigDict, shape: clip.TextShape,
              class_names: Sequence[str]) -> np.ndarray:
  """Token ids of the sentences about each class.

  Args:
    config: reads `dataset` and `text`; without `text.tokenizer` the one that
      lies beside the weights is taken.
    shape: of the text tower.
    class_names: C names as data sets have them.

  Returns:
    int32 [C, M, T] for M templates; T is as short as the sentences allow.

  Raises:
    FileNotFoundError, ValueError: no tokenizer, one with another vocabulary, a
      template without a place for a name, a name that is too long.
  """
  patterns = config.text.templates or templates.of_dataset(
      config.dataset, ensemble=config.text.ensemble)
  return _sentence_ids(config, shape, class_names, patterns)


def name_ids(config: ConfigDict, shape: clip.TextShape,
             class_names: Sequence[str]) -> np.ndarray:
  """Token ids of class names behind learned context.

  A row is the start token, `text.context_tokens` places that the context takes,
  the name, a full stop, the end token and zeros (Zhou et al., CoOp, 2022).

  Args:
    config: reads `text`.
    shape: of the text tower.
    class_names: as for `class_ids`.

  Returns:
    int32 [C, T], T as short as the names allow.

  Raises:
    FileNotFoundError, ValueError: see `class_ids`.
  """
  pattern = ' '.join([_PLACE] * config.text.context_tokens + ['{}.'])
  return _sentence_ids(config, shape, class_names, (pattern,))[:, 0]


def _sentence_ids(config: ConfigDict, shape: clip.TextShape,
                  class_names: Sequence[str], patterns: Sequence[str]
                  ) -> np.ndarray:
  """Ids [C, M, T] of each class in each pattern."""
  path = config.text.tokenizer or _beside(str(config.init_checkpoint))
  tokenizer = tokenizer_lib.load(path)
  if tokenizer.get_vocab_size() != shape.vocabulary:
    raise ValueError(
        f'the tokenizer {path!r} has {tokenizer.get_vocab_size()} tokens, '
        f'{config.model_name} was trained with {shape.vocabulary}')
  found = templates.sentences(class_names, patterns)
  ids = tokenizer_lib.encode(tokenizer, sum(found, []),
                             context_length=shape.context_length)
  longest = 1 + int(np.argmax(ids, axis=1).max())
  length = min(-(-longest // _STEP) * _STEP, shape.context_length)
  return ids[:, :length].reshape(len(class_names), len(patterns), length)


def class_embeddings(backbone: clip.Clip, params: Mapping[str, jax.Array],
                     ids: np.ndarray) -> np.ndarray:
  """Directions of classes in the joint space.

  The mean over a class's sentences of their embeddings at length 1, itself at
  length 1 (Radford et al., 2021, section 3.1.4).

  Args:
    backbone: with a text tower; computes in float32 here, whatever its dtype.
    params: flat parameters of the whole model.
    ids: int32 [C, M, T].

  Returns:
    float32 [C, E].
  """
  backbone = backbone.clone(dtype=jnp.float32)
  variables = {'params': traverse_util.unflatten_dict(
      dict(params), sep='/')['backbone']}

  @jax.jit
  def embed(variables, rows):
    with jax.default_matmul_precision('highest'):
      return similarity.l2_normalize(
          backbone.apply(variables, rows, method='encode_text'))

  rows = ids.reshape(-1, ids.shape[-1])
  # Whole batches, so that one program serves all of them.
  padded = np.resize(rows, (-(-len(rows) // _AT_ONCE) * _AT_ONCE, len(rows[0])))
  found = [np.asarray(embed(variables, padded[i:i + _AT_ONCE]))
           for i in range(0, len(padded), _AT_ONCE)]
  found = np.concatenate(found)[:len(rows)].reshape(*ids.shape[:2], -1)
  return np.asarray(similarity.l2_normalize(found.mean(axis=1)))


def _beside(checkpoint: str) -> str:
  """Folder of the weights, where a tokenizer may lie."""
  return checkpoint if os.path.isdir(checkpoint) else os.path.dirname(
      checkpoint) or os.curdir
