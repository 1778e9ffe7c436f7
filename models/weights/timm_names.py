# SPDX-License-Identifier: Apache-2.0
"""Names and axes of timm and DeiT -> those of `models/networks/vit.py`.

DINO, iBOT and MoCo-v3 use the same names.  A dense kernel is stored as
[out, in] there and as [in, out] here, heads apart; query, key and value lie in
one array.  What cannot be brought over keeps its own name, so that the
comparison with the model (`pretrained.merge`) lists it.
"""

from collections.abc import Iterable, Mapping
import re

import numpy as np

_BLOCK = 'Transformer/encoderblock_'
_ATTENTION = 'MultiHeadDotProductAttention_0'
_QKV = re.compile(r'blocks\.(\d+)\.attn\.qkv\.(weight|bias)')
_OUTSIDE = {
    'cls_token': 'cls',
    'pos_embed': 'Transformer/posembed_input/pos_embedding',
    'patch_embed.proj.weight': 'embedding/kernel',
    'patch_embed.proj.bias': 'embedding/bias',
    'norm.weight': 'Transformer/encoder_norm/scale',
    'norm.bias': 'Transformer/encoder_norm/bias',
}
_INSIDE = {
    'norm1.weight': 'LayerNorm_0/scale', 'norm1.bias': 'LayerNorm_0/bias',
    'norm2.weight': 'LayerNorm_1/scale', 'norm2.bias': 'LayerNorm_1/bias',
    'attn.proj.weight': f'{_ATTENTION}/out/kernel',
    'attn.proj.bias': f'{_ATTENTION}/out/bias',
    'mlp.fc1.weight': 'MlpBlock_0/Dense_0/kernel',
    'mlp.fc1.bias': 'MlpBlock_0/Dense_0/bias',
    'mlp.fc2.weight': 'MlpBlock_0/Dense_1/kernel',
    'mlp.fc2.bias': 'MlpBlock_0/Dense_1/bias',
}
# Classifiers and projectors; `fc_norm` is a norm of the averaged tokens.
DROPPED = ('head.', 'fc_norm.', 'pre_logits.')
# A second class token and its classifier, which change the features.
_DISTILLED = ('dist_token', 'head_dist.')


def is_timm(names: Iterable[str]) -> bool:
  """Whether a file with these array names uses timm's."""
  return any(name in _OUTSIDE or name.startswith('blocks.') for name in names)


def expected(depth: int) -> set[str]:
  """Names of all arrays of a plain ViT: 6 and 12 for each block."""
  kinds = (*_INSIDE, 'attn.qkv.weight', 'attn.qkv.bias')
  return {*_OUTSIDE, *(f'blocks.{i}.{kind}' for i in range(depth)
                       for kind in kinds)}


def convert(state: Mapping[str, np.ndarray], *, num_heads: int
            ) -> dict[str, np.ndarray]:
  """Renames, transposes and splits; drops the classifier.

  Args:
    state: timm names -> arrays.
    num_heads: H of the model; a file does not tell.

  Returns:
    Names and shapes of `models/networks/vit.py`.

  Raises:
    ValueError: the weights are those of a distilled DeiT.
  """
  refuse_distilled(state)
  arrays = {}
  for name, array in state.items():
    if not name.startswith(DROPPED):
      arrays |= _converted(name, array, num_heads)
  return arrays


def refuse_distilled(names: Iterable[str]) -> None:
  """Raises ValueError for names of a DeiT with a second class token."""
  distilled = sorted(name for name in names if name.startswith(_DISTILLED))
  if distilled:
    raise ValueError(
        f'holds {distilled[0]}, so it is a distilled DeiT, whose second token '
        'this ViT has not; take the file without distillation, such as '
        'deit_base_patch16_224')


def _converted(name: str, array: np.ndarray, num_heads: int
               ) -> dict[str, np.ndarray]:
  """What one array of the file becomes."""
  if match := _QKV.fullmatch(name):
    stem = f'{_BLOCK}{match[1]}/{_ATTENTION}'
    leaf = 'kernel' if match[2] == 'weight' else 'bias'
    parts = _split(array, num_heads)
    return {f'{stem}/{part}/{leaf}': value for part, value in parts.items()
            } or {name: array}
  if match := re.fullmatch(r'blocks\.(\d+)\.(.+)', name):
    ours = _INSIDE.get(match[2])
    ours = ours and f'{_BLOCK}{match[1]}/{ours}'
  else:
    ours = _OUTSIDE.get(name)
  return {ours: _turned(ours, array, num_heads)} if ours else {name: array}


def _split(array: np.ndarray, num_heads: int) -> dict[str, np.ndarray]:
  """[3D, D] -> three kernels [D, H, d], or [3D] -> three biases [H, d].

  Empty when the rows do not divide into three times H.
  """
  rows = array.shape[0] if array.ndim in (1, 2) else 1
  if rows % (3 * num_heads):
    return {}
  # Kernels [D, H, d] are [H, d, D] before the transposition.
  parts = array.reshape(3, num_heads, -1, *array.shape[1:])
  if array.ndim == 2:
    parts = np.moveaxis(parts, -1, 1)
  return dict(zip(('query', 'key', 'value'), parts, strict=True))


def _turned(ours: str, array: np.ndarray, num_heads: int) -> np.ndarray:
  """`array` with the axes of the leaf `ours`; as it is where they differ."""
  if ours == 'embedding/kernel' and array.ndim == 4:
    return array.transpose(2, 3, 1, 0)  # [D, 3, p, p] -> [p, p, 3, D]
  if ours.endswith('kernel') and array.ndim == 2:
    array = array.T
    if '/out/' in ours and array.shape[0] % num_heads == 0:
      array = array.reshape(num_heads, -1, array.shape[1])  # [H, d, D]
  return array
