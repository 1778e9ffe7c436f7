# SPDX-License-Identifier: Apache-2.0
"""Containers and prefixes of published checkpoints, up to the backbone."""

import argparse
from unittest import mock

import numpy as np
import pytest

from promptcl.models.weights import families
from promptcl.models.weights import formats
from promptcl.models.weights import pretrained
from promptcl.models.weights import timm_names
from promptcl.tools import convert_weights
from promptcl.tools import torch_layouts
from promptcl.train_lib.core import state as state_lib
from tests.helpers import fakes
from tests.helpers import weights

ONES = np.ones(3, np.float32)


@pytest.fixture(scope='module')
def arrays():
  return fakes.backbone_arrays()


def _prefixed(prefix, state):
  return {prefix + name: array for name, array in state.items()}


def _dino(state):
  return state


def _deit(state):
  return {'model': {**state, 'head.weight': ONES, 'head.bias': ONES}}


def _ibot_1k(state):
  return {'state_dict': state}


def _ibot_21k(state):
  """Teacher without `module.`, student with it; what else is in the file."""
  other = {name: 0 * array for name, array in state.items()}
  return {
      'student': {**_prefixed('module.backbone.', other),
                  'module.backbone.masked_embed': ONES,
                  'module.head.mlp.0.weight': ONES},
      'teacher': {**_prefixed('backbone.', state), 'head.mlp.0.weight': ONES},
      'optimizer': {'state': {0: {'exp_avg': ONES}}, 'param_groups': []},
      'epoch': 80, 'args': object(), 'ibot_loss': {'center': ONES}}


def _moco(state):
  other = {name: 0 * array for name, array in state.items()}
  base, momentum = 'module.base_encoder.', 'module.momentum_encoder.'
  return {'epoch': 300, 'arch': 'vit_base', 'optimizer': {}, 'scaler': {},
          'state_dict': {
              **_prefixed(base, state), f'{base}head.0.weight': ONES,
              f'{base}head.1.running_mean': ONES,
              f'{base}head.1.num_batches_tracked': np.array(7),
              **_prefixed(momentum, other), f'{momentum}head.0.weight': ONES,
              'module.predictor.0.weight': ONES}}


@pytest.mark.parametrize('layout, family', [
    (_dino, ''), (_deit, ''), (_ibot_1k, ''), (_ibot_21k, 'ibot'),
    (_moco, 'moco')])
def test_layouts_of_published_checkpoints(layout, family, arrays):
  state = weights.to_timm(arrays)
  found = torch_layouts.unpack(layout(state))
  assert found.family == family
  assert found.arrays.keys() == state.keys()
  for name, array in state.items():
    np.testing.assert_array_equal(found.arrays[name], array, name)


def test_the_student_on_request(arrays):
  content = _ibot_21k(weights.to_timm(arrays))
  found = torch_layouts.unpack(content, network='student')
  assert not np.any(found.arrays['cls_token'])
  assert found.left_out == ('masked_embed', 'module.head.mlp.0.weight')


def test_what_is_left_out_is_told(arrays):
  found = torch_layouts.unpack(_deit(weights.to_timm(arrays)))
  assert found.left_out == ('head.bias', 'head.weight')


@pytest.mark.parametrize('change, message', [
    (lambda s: s.pop('norm.bias'), 'missing norm.bias'),
    (lambda s: s.update({'blocks.0.ls1.gamma': ONES}),
     'unexpected blocks.0.ls1.gamma'),
    (lambda s: s.update({'reg_token': ONES}), 'unexpected reg_token'),
    (lambda s: s.update({'decoder_embed.weight': ONES}), 'decoder_embed'),
    (lambda s: [s.pop(f'blocks.{i}.attn.qkv.bias') for i in range(3)],
     r'blocks.\*.attn.qkv.bias \(in 3 blocks, 0 to 2\)'),
    (lambda s: s.pop('patch_embed.proj.weight'), 'holds 0 arrays patch_embed'),
    (lambda s: s.update({'dist_token': ONES}), 'dist_token.*distilled')])
def test_what_is_no_plain_vit_is_refused(change, message, arrays):
  state = weights.to_timm(arrays)
  change(state)
  with pytest.raises(ValueError, match=message) as raised:
    torch_layouts.unpack({'model': state})
  assert '\n' not in str(raised.value)


@pytest.mark.parametrize('content', [
    [1, 2], {}, {'model': {'epoch': 3}}, {'fc.weight': ONES},
    {'state_dict': {'encoder.q.patch_embed.proj.weight': ONES}}])
def test_what_is_no_checkpoint_is_refused(content):
  with pytest.raises(ValueError, match='holds'):
    torch_layouts.unpack(content)


def _geometry(width, patch, depth):
  """What a file shows of these sizes."""
  blocks = {f'blocks.{i}.norm1.bias': np.zeros(width) for i in range(depth)}
  return torch_layouts.Found(
      {'cls_token': np.zeros((1, 1, width)),
       'patch_embed.proj.weight': np.zeros((width, 3, patch, patch)),
       **blocks}, '', ())


@pytest.mark.parametrize('width, patch, depth, family, heads', [
    (192, 16, 12, 'deit', 3), (384, 16, 12, 'dino', 6), (384, 8, 12, 'dino', 6),
    (384, 16, 12, 'moco', 12), (768, 16, 12, 'moco', 12),
    (1024, 16, 24, 'ibot', 16), (1280, 14, 32, 'timm_augreg', 16)])
def test_heads_of_published_widths(width, patch, depth, family, heads):
  found = _geometry(width, patch, depth)
  assert torch_layouts.num_heads(found, family) == heads


def test_heads_of_another_width_must_be_given():
  with pytest.raises(ValueError, match='width 100.*--num_heads'):
    torch_layouts.num_heads(_geometry(100, 16, 12), 'dino')


def test_a_published_width_with_too_few_blocks_is_cut_short():
  assert len(timm_names.expected(12)) == 150
  for depth in (11, 13):
    with pytest.raises(ValueError, match=f'has {depth} blocks, .* has 12'):
      torch_layouts.num_heads(_geometry(768, 16, depth), 'ibot')


# As published: layout, name of the file, what must be said beside it, family.
PUBLISHED = {
    'ibot-21k': (_ibot_21k, 'checkpoint.pth', (), 'ibot'),
    'ibot-1k': (_ibot_1k, 'checkpoint_teacher.pth', ('--family', 'ibot'),
                'ibot'),
    'dino-1k': (_dino, 'dino_vitbase16_pretrain.pth', (), 'dino'),
    'moco-1k': (_moco, 'vit-b-300ep.pth.tar', (), 'moco')}


@pytest.fixture(params=PUBLISHED)
def published(request):
  return PUBLISHED[request.param]


def _convert(content, path, told, output):
  """The command, with `content` as what torch reads in the file `path`."""
  path.write_bytes(b'\x80\x02}q\x00.')  # an old .pth
  with mock.patch.object(convert_weights, 'read_torch',
                         lambda _: content):
    return convert_weights.main(
        [str(path), str(output), '--num_heads', '2', *told])


def test_each_published_layout_becomes_the_same_backbone(
    published, arrays, tmp_path):
  layout, name, told, family = published
  output = tmp_path / 'backbone.npz'
  content = layout(weights.to_timm(arrays))
  assert _convert(content, tmp_path / name, told, output) == 0
  like = state_lib.variables(arrays)['params']
  loaded = state_lib.flatten(pretrained.load(str(output), like))
  assert loaded.keys() == arrays.keys()
  for leaf, array in arrays.items():  # MoCo's fixed positions are among them
    np.testing.assert_array_equal(loaded[leaf], array, leaf)
  found = families.find(str(output), model_name='DeiT-B_16')
  assert found == families.FAMILIES[family]
  assert (found.exact_gelu, found.input_range) == (True, 'imagenet')


@pytest.mark.parametrize('change, message', [
    (lambda s: s.pop('norm.weight'), 'missing norm.weight'),
    (lambda s: s.pop('pos_embed'), 'missing pos_embed'),
    (lambda s: s.pop('blocks.2.mlp.fc2.bias'),
     'missing blocks.2.mlp.fc2.bias'),
    (lambda s: s.update({'blocks.0.gamma_1': ONES}),
     'unexpected blocks.0.gamma_1'),
    (lambda s: [s.update({f'encoder_q.{name}': s.pop(name)})
                for name in list(s)], 'holds 0 arrays patch_embed')])
def test_each_published_layout_must_be_whole(
    published, change, message, arrays, tmp_path, capsys):
  layout, name, told, _ = published
  state, output = weights.to_timm(arrays), tmp_path / 'backbone.npz'
  change(state)
  assert _convert(layout(state), tmp_path / name, told, output) == 1
  error = capsys.readouterr().err
  assert message in error and error.count('\n') == 1
  assert not output.exists()


def _as_tensors(torch, content):
  if isinstance(content, dict):
    return {key: _as_tensors(torch, value) for key, value in content.items()}
  if isinstance(content, np.ndarray):
    return torch.from_numpy(content.copy())
  return content


@pytest.mark.parametrize('network', torch_layouts.NETWORKS)
def test_published_layouts_that_torch_wrote(
    published, network, arrays, tmp_path):
  """iBOT's command line is pickled beside the weights, as in its file."""
  torch = pytest.importorskip('torch', reason='torch is not a requirement')
  layout, name, told, _ = published
  content = layout(weights.to_timm(arrays))
  if 'args' in content:
    content['args'] = argparse.Namespace(arch='vit_base', lr=1e-3, seed=0)
  torch.save(_as_tensors(torch, content), tmp_path / name)
  output = tmp_path / 'backbone.npz'
  assert convert_weights.main([
      str(tmp_path / name), str(output), '--num_heads', '2',
      '--network', network, *told]) == 0
  found = formats.read(str(output))
  # The student of the fixture is zero; the other files hold one network.
  factor = 0 if (layout, network) == (_ibot_21k, 'student') else 1
  for leaf, array in arrays.items():
    np.testing.assert_array_equal(found[leaf], factor * array, leaf)
