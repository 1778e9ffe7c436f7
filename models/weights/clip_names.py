# SPDX-License-Identifier: Apache-2.0
"""Names and axes of published CLIP files -> those of `models/networks/clip.py`.

OpenAI's names (its archives, OpenCLIP's files of the same weights) and those of
Hugging Face's CLIPModel.  What cannot be brought over keeps its own name, so
that the comparison with the model (`pretrained.merge`) lists it.
"""

from collections.abc import Iterable, Mapping
import re

import numpy as np

from promptcl.models.weights import mismatch

_ATTENTION = 'MultiHeadDotProductAttention_0'
_HEAD_WIDTH = 64  # of every published model
_MARKS = ('visual.conv1.weight', 'vision_model.embeddings.class_embedding')
# The towers' blocks, in both namings, and ours.
_BLOCKS = {
    'visual.transformer.resblocks': 'Transformer',
    'transformer.resblocks': 'text',
    'vision_model.encoder.layers': 'Transformer',
    'text_model.encoder.layers': 'text'}
_BLOCK = re.compile('(' + '|'.join(map(re.escape, _BLOCKS))
                    + r')\.(\d+)\.(.+)\.(weight|bias)')
_INSIDE = {
    'ln_1': 'LayerNorm_0', 'layer_norm1': 'LayerNorm_0',
    'ln_2': 'LayerNorm_1', 'layer_norm2': 'LayerNorm_1',
    'mlp.c_fc': 'MlpBlock_0/Dense_0', 'mlp.fc1': 'MlpBlock_0/Dense_0',
    'mlp.c_proj': 'MlpBlock_0/Dense_1', 'mlp.fc2': 'MlpBlock_0/Dense_1',
    'attn.out_proj': f'{_ATTENTION}/out',
    'self_attn.out_proj': f'{_ATTENTION}/out',
    'self_attn.q_proj': f'{_ATTENTION}/query',
    'self_attn.k_proj': f'{_ATTENTION}/key',
    'self_attn.v_proj': f'{_ATTENTION}/value'}
_NORMS = {
    'visual.ln_pre': 'Transformer/encoder_pre_norm',
    'vision_model.pre_layrnorm': 'Transformer/encoder_pre_norm',  # as published
    'visual.ln_post': 'Transformer/encoder_norm',
    'vision_model.post_layernorm': 'Transformer/encoder_norm',
    'ln_final': 'text/encoder_norm',
    'text_model.final_layer_norm': 'text/encoder_norm'}
_EMBEDDINGS = 'vision_model.embeddings', 'text_model.embeddings'
_OUTSIDE = {
    **{f'{theirs}.{a}': f'{ours}/{b}' for theirs, ours in _NORMS.items()
       for a, b in (('weight', 'scale'), ('bias', 'bias'))},
    'visual.conv1.weight': 'embedding/kernel',
    f'{_EMBEDDINGS[0]}.patch_embedding.weight': 'embedding/kernel',
    'visual.class_embedding': 'cls',
    f'{_EMBEDDINGS[0]}.class_embedding': 'cls',
    'visual.positional_embedding': 'Transformer/posembed_input/pos_embedding',
    f'{_EMBEDDINGS[0]}.position_embedding.weight':
        'Transformer/posembed_input/pos_embedding',
    'visual.proj': 'joint_embedding/kernel',
    'visual_projection.weight': 'joint_embedding/kernel',
    'token_embedding.weight': 'text/token_embedding/embedding',
    f'{_EMBEDDINGS[1]}.token_embedding.weight':
        'text/token_embedding/embedding',
    'positional_embedding': 'text/pos_embedding',
    f'{_EMBEDDINGS[1]}.position_embedding.weight': 'text/pos_embedding',
    'text_projection': 'text/joint_embedding/kernel',
    'text_projection.weight': 'text/joint_embedding/kernel',
    'logit_scale': 'embedding_scale'}
_LEAVES = tuple(
    f'{module}/{leaf}' for module in set(_INSIDE.values())
    for leaf in (('scale' if 'Norm' in module else 'kernel'), 'bias'))
# OpenAI stores these as [in, out], unlike every other matrix.
_AS_OURS = ('visual.proj', 'text_projection')
# No weights: sizes in OpenAI's archives, running numbers in older files.
_IGNORED = re.compile(
    r'input_resolution|context_length|vocab_size|.*\.position_ids')


def is_clip(names: Iterable[str]) -> bool:
  """Whether a file with these array names uses one of the namings."""
  return not set(_MARKS).isdisjoint(names)


def convert(state: Mapping[str, np.ndarray], *, num_heads: int = 0,
            num_text_heads: int = 0) -> dict[str, np.ndarray]:
  """Renames, transposes and splits.

  Args:
    state: names of either kind -> arrays.
    num_heads: of the image tower; 0: as many as published models of its width.
    num_text_heads: of the text tower, likewise.

  Returns:
    Names and shapes of `models/networks/clip.py`.
  """
  heads = {'Transformer': num_heads, 'text': num_text_heads}
  arrays = {}
  for name, array in _apart(state).items():
    if _IGNORED.fullmatch(name):
      continue
    if match := _BLOCK.fullmatch(name):
      tower, inside = _BLOCKS[match[1]], _INSIDE.get(match[3])
      if inside:
        leaf = 'scale' if 'Norm' in inside else 'kernel'
        leaf = leaf if match[4] == 'weight' else 'bias'
        name = f'{tower}/encoderblock_{match[2]}/{inside}/{leaf}'
        array = _turned(name, array, heads[tower])
    elif ours := _OUTSIDE.get(name):
      array = array if name in _AS_OURS else _turned(ours, array, 0)
      name = ours
    arrays[name] = array
  return arrays


def convert_published(state: Mapping[str, np.ndarray]
                      ) -> dict[str, np.ndarray]:
  """`convert` without a model to compare with: the file tells the depths.

  Raises:
    ValueError: lists what is missing or unexpected, or tells a width that says
      nothing of the number of heads.
  """
  arrays, wanted = convert(state), set(_OUTSIDE.values())
  for tower in sorted({*_BLOCKS.values()}):
    depth = 1 + max((int(match[2]) for name in state if (
        match := _BLOCK.match(name)) and _BLOCKS[match[1]] == tower),
                    default=-1)
    wanted |= {f'{tower}/encoderblock_{i}/{leaf}'
               for i in range(depth) for leaf in _LEAVES}
  problems = [('missing {}', name) for name in sorted(wanted - arrays.keys())]
  problems += [('unexpected {}', name)
               for name in sorted(arrays.keys() - wanted)]
  if problems:
    raise ValueError('not a CLIP of two Vision Transformers: '
                     + '; '.join(mismatch.shortened(problems)))
  for name, array in state.items():
    if name.endswith('.out_proj.bias') and array.size % _HEAD_WIDTH:
      raise ValueError(f'has width {array.size}, for which no number of heads '
                       'is known')
  return arrays


def _apart(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Queries, keys and values of OpenAI's blocks as arrays of their own."""
  apart = {}
  for name, array in state.items():
    stem, found, leaf = name.partition('.attn.in_proj_')
    if found and len(array) % 3 == 0:
      for part, rows in zip('qkv', np.split(array, 3), strict=True):
        apart[f'{stem}.self_attn.{part}_proj.{leaf}'] = rows
    else:
      apart[name] = array
  return apart


def _turned(ours: str, array: np.ndarray, num_heads: int) -> np.ndarray:
  """`array` with the axes of the leaf `ours`; as it is where they differ."""
  if ours == 'embedding/kernel' and array.ndim == 4:
    return array.transpose(2, 3, 1, 0)  # [D, 3, p, p] -> [p, p, 3, D]
  if ours == 'cls':
    return array.reshape(1, 1, -1)
  if ours.endswith('pos_embedding'):
    return array[None]
  if ours.endswith('kernel') and array.ndim == 2:
    array = array.T
  return _with_heads(ours, array, num_heads)


def _with_heads(ours: str, array: np.ndarray, num_heads: int) -> np.ndarray:
  """Attention's kernels and biases with an axis of heads."""
  if f'{_ATTENTION}/' not in ours or ours.endswith('out/bias'):
    return array
  axis = 0 if '/out/' in ours else array.ndim - 1
  width = array.shape[axis]
  num_heads = num_heads or width // _HEAD_WIDTH
  if not num_heads or width % num_heads:
    return array
  shape = list(array.shape)
  shape[axis:axis + 1] = [num_heads, width // num_heads]
  return array.reshape(shape)
