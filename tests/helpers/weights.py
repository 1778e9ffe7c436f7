# SPDX-License-Identifier: Apache-2.0
"""Weights as other code bases write them."""

import json
import pathlib
import re

import numpy as np
import safetensors.numpy

from promptcl.models.weights import pretrained


def to_timm(arrays):
  """Arrays under the names of `networks/vit.py` -> timm's names and axes.

  Written on its own, as the inverse of `models/weights/timm_names.py`.
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


def to_openai(arrays):
  """Arrays under the names of `networks/clip.py` -> those of openai/CLIP.

  Written on its own, as the inverse of `models/weights/clip_names.py`.
  """
  out = {
      'visual.conv1.weight': np.einsum(
          'hwcd->dchw', arrays['embedding/kernel']),
      'visual.class_embedding': arrays['cls'][0, 0],
      'visual.positional_embedding': arrays[pretrained.POSITIONS][0],
      'visual.proj': arrays['joint_embedding/kernel'],
      'token_embedding.weight': arrays['text/token_embedding/embedding'],
      'positional_embedding': arrays['text/pos_embedding'][0],
      'text_projection': arrays['text/joint_embedding/kernel'],
      'logit_scale': arrays['embedding_scale'],
      **_norm(arrays, 'Transformer/encoder_pre_norm', 'visual.ln_pre'),
      **_norm(arrays, 'Transformer/encoder_norm', 'visual.ln_post'),
      **_norm(arrays, 'text/encoder_norm', 'ln_final')}
  for block in set(re.findall(r'\w+/encoderblock_\d+', '\n'.join(arrays))):
    tower, number = block.split('/encoderblock_')
    stem = {'Transformer': 'visual.transformer.resblocks.',
            'text': 'transformer.resblocks.'}[tower] + number
    attention = f'{block}/MultiHeadDotProductAttention_0'
    width = arrays[f'{block}/LayerNorm_0/scale'].size
    parts = ('query', 'key', 'value')
    out |= {
        **_norm(arrays, f'{block}/LayerNorm_0', f'{stem}.ln_1'),
        **_norm(arrays, f'{block}/LayerNorm_1', f'{stem}.ln_2'),
        f'{stem}.attn.in_proj_weight': np.concatenate([
            arrays[f'{attention}/{part}/kernel'].reshape(width, width).T
            for part in parts]),
        f'{stem}.attn.in_proj_bias': np.concatenate([
            arrays[f'{attention}/{part}/bias'].reshape(width)
            for part in parts]),
        f'{stem}.attn.out_proj.weight': arrays[
            f'{attention}/out/kernel'].reshape(width, width).T,
        f'{stem}.attn.out_proj.bias': arrays[f'{attention}/out/bias']}
    for ours, theirs in ('Dense_0', 'c_fc'), ('Dense_1', 'c_proj'):
      dense = f'{block}/MlpBlock_0/{ours}'
      out[f'{stem}.mlp.{theirs}.weight'] = arrays[f'{dense}/kernel'].T
      out[f'{stem}.mlp.{theirs}.bias'] = arrays[f'{dense}/bias']
  return {name: np.asarray(array, order='C') for name, array in out.items()}


def _norm(arrays, ours, theirs):
  return {f'{theirs}.weight': arrays[f'{ours}/scale'],
          f'{theirs}.bias': arrays[f'{ours}/bias']}


def write_hugging_face(folder, arrays, variant, **changes):
  """A folder with arrays of `networks/clip.py` and the config of a variant.

  Args:
    folder: made.
    arrays: written under openai/CLIP's names.
    variant: of `clip.VARIANTS`.
    **changes: entries of `vision_config` that replace those of the variant.
  """
  text, folder = variant.text_shape, pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  sizes = lambda tower: {
      'hidden_size': tower.width, 'num_hidden_layers': tower.depth,
      'num_attention_heads': tower.num_heads,
      'intermediate_size': tower.mlp_dim}
  (folder / 'config.json').write_text(json.dumps({
      'model_type': 'clip', 'projection_dim': variant.joint_width,
      'vision_config': {**sizes(variant), 'patch_size': variant.patch_size,
                        **changes},
      'text_config': {**sizes(text), 'vocab_size': text.vocabulary,
                      'eos_token_id': 2}}))
  safetensors.numpy.save_file(
      to_openai(arrays), folder / 'model.safetensors')
  return str(folder)
