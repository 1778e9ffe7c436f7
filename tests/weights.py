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
"""Weights as other code bases write them."""

import re

import numpy as np

from models import pretrained


def to_timm(arrays):
  """Arrays under the names of `models/vit.py` -> timm's names and axes.

  Written on its own, as the inverse of `models/timm_names.py`.
  """
  depth = 1 + max(int(n) for n in re.findall(
      r'encoderblock_(\d+)/', '\n'.join(arrays)))
  out = {
      'cls_token': arrays['cls'], 'pos_embed': arrays[pretrained.POSITIONS],
      'patch_embed.proj.weight': np.einsum(
          'hwcd->dchw', arrays['embedding/kernel']),
      'patch_embed.proj.bias': arrays['embedding/bias'],
      'norm.weight': arrays['Transformer/encoder_norm/scale'],
      'norm.bias': arrays['Transformer/encoder_norm/bias']}
  for i in range(depth):
    block = {k.removeprefix(f'Transformer/encoderblock_{i}/'): v
             for k, v in arrays.items() if f'/encoderblock_{i}/' in k}
    ours = block.__getitem__
    attention = 'MultiHeadDotProductAttention_0'
    width = ours('LayerNorm_0/scale').size
    stacked = lambda leaf, ours=ours, a=attention, d=width: np.concatenate(
        [ours(f'{a}/{part}/{leaf}').reshape(*(
            (d, d) if leaf == 'kernel' else (d,))).T
         for part in ('query', 'key', 'value')])
    out |= {f'blocks.{i}.{name}': array for name, array in {
        'norm1.weight': ours('LayerNorm_0/scale'),
        'norm1.bias': ours('LayerNorm_0/bias'),
        'attn.qkv.weight': stacked('kernel'), 'attn.qkv.bias': stacked('bias'),
        'attn.proj.weight': ours(
            f'{attention}/out/kernel').reshape(width, width).T,
        'attn.proj.bias': ours(f'{attention}/out/bias'),
        'norm2.weight': ours('LayerNorm_1/scale'),
        'norm2.bias': ours('LayerNorm_1/bias'),
        'mlp.fc1.weight': ours('MlpBlock_0/Dense_0/kernel').T,
        'mlp.fc1.bias': ours('MlpBlock_0/Dense_0/bias'),
        'mlp.fc2.weight': ours('MlpBlock_0/Dense_1/kernel').T,
        'mlp.fc2.bias': ours('MlpBlock_0/Dense_1/bias')}.items()}
  return {name: np.ascontiguousarray(array) for name, array in out.items()}
