# SPDX-License-Identifier: Apache-2.0
"""timm's names and axes: by hand, on the reference numbers, on a real file."""

import json

import numpy as np
import pytest
import safetensors.numpy

from promptcl.models.networks import layers
from promptcl.models.networks import vit
from promptcl.models.weights import formats
from promptcl.models.weights import pretrained
from promptcl.models.weights import timm_names
from promptcl.train_lib.core import state as state_lib
from tests.helpers import fakes
from tests.helpers import weights


def _tree(arrays):
  return state_lib.variables(arrays)['params']


@pytest.fixture(scope='module')
def arrays():
  return fakes.backbone_arrays()


def test_heads_of_queries_keys_and_values_by_hand():
  # 2 heads of width 1: row r of the stacked kernel is output r of q, k or v.
  kernel = np.arange(12, dtype=np.float32).reshape(6, 2)
  got = timm_names.convert(
      {'blocks.3.attn.qkv.weight': kernel,
       'blocks.3.attn.qkv.bias': np.arange(6.)}, num_heads=2)
  stem = 'Transformer/encoderblock_3/MultiHeadDotProductAttention_0'
  # [D, H, d]: input i of head h is kernel[h, i].
  np.testing.assert_array_equal(
      got[f'{stem}/query/kernel'], [[[0], [2]], [[1], [3]]])
  np.testing.assert_array_equal(
      got[f'{stem}/value/kernel'], [[[8], [10]], [[9], [11]]])
  np.testing.assert_array_equal(got[f'{stem}/key/bias'], [[2], [3]])
  assert len(got) == 6


def test_150_arrays_make_a_vit_of_12_blocks():
  assert len(timm_names.expected(12)) == 150


def test_there_and_back_is_exact(arrays):
  named = weights.to_timm(arrays)
  assert set(named) == timm_names.expected(3)
  back = timm_names.convert(named, num_heads=2)
  assert back.keys() == arrays.keys()
  for name, array in arrays.items():
    np.testing.assert_array_equal(back[name], array, name)


def test_classifiers_are_dropped(arrays):
  extra = {'head.weight': np.ones((5, 16)), 'head.bias': np.ones(5),
           'fc_norm.weight': np.ones(16), 'pre_logits.fc.weight': np.ones(1)}
  assert timm_names.convert(
      {**weights.to_timm(arrays), **extra}, num_heads=2).keys() == arrays.keys()


@pytest.mark.parametrize('name', [
    'dist_token', 'head_dist.weight'])
def test_a_distilled_deit_is_refused(name, arrays):
  named = {**weights.to_timm(arrays), name: np.ones((1, 1, 16))}
  with pytest.raises(ValueError, match=f'deit.npz.*{name}.*distilled'):
    pretrained.merge(named, _tree(arrays), source='deit.npz')


def test_what_does_not_fit_is_listed_under_both_names(arrays):
  named = weights.to_timm(arrays)
  named['blocks.0.ls1.gamma'] = np.ones(16)
  named['blocks.1.attn.qkv.weight'] = np.ones((10, 16))  # not three times H
  named['blocks.2.mlp.fc1.weight'] = np.ones((16, 16))
  named['patch_embed.proj.weight'] = np.ones((16, 48))  # a linear embedding
  del named['norm.bias']
  with pytest.raises(ValueError) as raised:
    pretrained.merge(named, _tree(arrays), source='some.safetensors')
  for part in ('unexpected blocks.0.ls1.gamma',
               'unexpected blocks.1.attn.qkv.weight',
               'missing Transformer/encoderblock_1/'
               'MultiHeadDotProductAttention_0/key/kernel',
               'encoderblock_2/MlpBlock_0/Dense_0/kernel has shape [16, 16], '
               'needs [16, 32]', 'missing Transformer/encoder_norm/bias',
               'embedding/kernel has shape [48, 16]'):
    assert part in str(raised.value), part


def test_weights_of_the_reference_have_both_names(shared):
  """timm's own loader read the same arrays under the original's names."""
  with np.load(shared / 'parity/torch_ports/timm_vit_forward.npz') as file:
    arrays = dict(file)
  heads = json.loads(str(arrays['meta']))['config']['num_heads']
  part = lambda prefix: {k.removeprefix(prefix): v for k, v in arrays.items()
                         if k.startswith(prefix)}
  google = pretrained.canonical(part('google/'))
  loaded = pretrained.canonical(part('loaded/'), num_heads=heads)
  del loaded['tokens_of_images']
  assert google.keys() == loaded.keys()
  for name in google.keys() - {pretrained.POSITIONS}:  # another grid
    np.testing.assert_array_equal(loaded[name], google[name], name)


def test_output_of_timm_is_reached(shared):
  """Tokens after the final norm, all blocks between: axes cannot be wrong."""
  with np.load(shared / 'parity/torch_ports/timm_vit_forward.npz') as file:
    arrays = dict(file)
  params = {k.removeprefix('params/'): v for k, v in arrays.items()
            if k.startswith('params/')}
  model = vit.VisionTransformer(
      patch_size=4, width=48, depth=2, num_heads=4, mlp_dim=192, image_size=16,
      traits=layers.Traits(gelu='exact'))
  ours = pretrained.canonical(params, num_heads=4)
  images = arrays['images'].transpose(0, 2, 3, 1)
  tokens = model.apply({'params': _tree(ours)}, images).tokens
  np.testing.assert_allclose(tokens, arrays['images/tokens'], atol=1e-4)


def test_a_real_deit_comes_back_from_safetensors_bit_by_bit(shared, tmp_path):
  original = shared / 'data/backbones/deit_tiny_patch16_224.npz'
  arrays = pretrained.canonical(formats.read(str(original)))
  path = str(tmp_path / 'model.safetensors')
  safetensors.numpy.save_file(
      {**weights.to_timm(arrays), 'head.bias': np.zeros(1000, np.float32),
       'head.weight': np.ones((1000, 192), np.float32)},
      path, metadata={'format': 'pt'})
  loaded = state_lib.flatten(pretrained.load(path, _tree(arrays)))
  assert loaded.keys() == arrays.keys() and len(loaded) == 6 + 16 * 12
  for name, array in arrays.items():
    np.testing.assert_array_equal(loaded[name], array, name)
