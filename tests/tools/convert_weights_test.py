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
"""Containers and prefixes of published checkpoints; the command; a run's."""

import sys
import zipfile

import numpy as np
import pytest
import safetensors.numpy

from models import clip
from models import families
from models import formats
from models import pretrained
from tests import fakes
from tests import weights
from tools import convert_weights
from tools import torch_layouts
from train_lib import state as state_lib

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
              f'{base}head.1.num_batches_tracked': np.float32(7),
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


@pytest.mark.parametrize('width, patch, family, heads', [
    (192, 16, 'deit', 3), (384, 16, 'dino', 6), (384, 8, 'dino', 6),
    (384, 16, 'moco', 12), (768, 16, 'moco', 12), (1024, 16, 'ibot', 16),
    (1280, 14, 'timm_augreg', 16)])
def test_heads_of_published_widths(width, patch, family, heads):
  found = torch_layouts.Found(
      {'cls_token': np.zeros((1, 1, width)),
       'patch_embed.proj.weight': np.zeros((width, 3, patch, patch))}, '', ())
  assert torch_layouts.num_heads(found, family) == heads


def test_heads_of_another_width_must_be_given():
  found = torch_layouts.Found(
      {'cls_token': np.zeros((1, 1, 100)),
       'patch_embed.proj.weight': np.zeros((100, 3, 16, 16))}, '', ())
  with pytest.raises(ValueError, match='width 100.*--num_heads'):
    torch_layouts.num_heads(found, 'dino')


def test_a_moco_checkpoint_becomes_a_backbone_of_ours(arrays, tmp_path):
  content = _moco(weights.to_timm(arrays))
  converted, family, _ = convert_weights.convert(
      content, family='', network='teacher', num_heads=2, source='x.pth.tar')
  formats.write_npz(tmp_path / 'moco.npz', converted, {'family': family})
  like = state_lib.variables(arrays)['params']
  loaded = state_lib.flatten(
      pretrained.load(str(tmp_path / 'moco.npz'), like))
  for name, array in arrays.items():  # the fixed positions are among them
    np.testing.assert_array_equal(loaded[name], array, name)
  found = families.find(str(tmp_path / 'moco.npz'), model_name='DeiT-B_16')
  assert found == families.FAMILIES['moco']


def test_the_family_must_be_told_by_someone(arrays):
  content = weights.to_timm(arrays)
  options = dict(network='teacher', num_heads=2)
  with pytest.raises(ValueError, match='--family.*deit, dino.*ibot'):
    convert_weights.convert(content, family='', source='checkpoint.pth',
                            **options)
  for source, told, family in (('dino_vitbase16_pretrain.pth', '', 'dino'),
                               ('deit_base_patch16_224.pth', '', 'deit'),
                               ('checkpoint_teacher.pth', 'ibot', 'ibot')):
    assert convert_weights.convert(
        content, family=told, source=source, **options)[1] == family


def test_the_command_converts_safetensors(arrays, tmp_path, capsys):
  source, target = tmp_path / 'deit_x.safetensors', tmp_path / 'out.npz'
  safetensors.numpy.save_file(weights.to_timm(arrays), source)
  assert convert_weights.main(
      [str(source), str(target), '--num_heads', '2']) == 0
  assert 'deit, 54 arrays' in capsys.readouterr().out
  meta = formats.peek(str(target)).meta
  assert (meta['family'], meta['exact_gelu'], meta['input_range']) == (
      'deit', True, 'imagenet')
  assert meta['source'] == 'deit_x.safetensors'
  assert len(meta['source_sha256']) == 64


@pytest.fixture(scope='module')
def clip_arrays():
  """Towers with heads as wide as in published ones."""
  model = clip.Clip(
      patch_size=4, width=64, depth=1, num_heads=1, mlp_dim=8, image_size=8,
      traits=clip.TRAITS, joint_width=5, text_shape=clip.TextShape(
          width=128, depth=2, num_heads=2, mlp_dim=8, vocabulary=9))
  return fakes.arrays_of(model)


def test_the_command_converts_clip(clip_arrays, tmp_path, capsys):
  source, target = tmp_path / 'clip.safetensors', tmp_path / 'out.npz'
  safetensors.numpy.save_file(weights.to_openai(clip_arrays), source)
  assert convert_weights.main([str(source), str(target)]) == 0
  assert f'clip, {len(clip_arrays)} arrays' in capsys.readouterr().out
  meta, found = formats.peek(str(target)).meta, formats.read(str(target))
  assert (meta['family'], meta['input_range']) == ('clip', 'clip')
  assert found.keys() == clip_arrays.keys()
  for name, array in clip_arrays.items():
    np.testing.assert_array_equal(found[name], array, name)


@pytest.mark.parametrize('change, message', [
    (lambda s: s.pop('transformer.resblocks.1.ln_1.bias'),
     'missing text/encoderblock_1/LayerNorm_0/bias'),
    (lambda s: s.update({'visual.layer1.0.conv1.weight': ONES}),
     'unexpected visual.layer1.0.conv1.weight'),  # a ResNet
    (lambda s: s.update({'transformer.resblocks.0.attn.out_proj.bias': ONES}),
     'width')])
def test_what_is_no_published_clip_is_refused(change, message, clip_arrays):
  state = weights.to_openai(clip_arrays)
  change(state)
  with pytest.raises(ValueError, match=message):
    convert_weights.convert(state, family='', network='teacher', num_heads=0,
                            source='x.pt')


def test_archives_of_torchscript(clip_arrays, tmp_path):
  torch = pytest.importorskip('torch', reason='torch is not a requirement')
  state = weights.to_openai(clip_arrays)

  def module_of(entries):
    """A module whose state has the names of `entries`."""
    module = torch.nn.Module()
    for name, value in entries.items():
      head, _, rest = name.partition('.')
      if not rest:
        module.register_buffer(head, torch.from_numpy(np.array(value)).half())
    for head in {name.partition('.')[0] for name in entries if '.' in name}:
      module.add_module(head, module_of({
          name.partition('.')[2]: value for name, value in entries.items()
          if name.startswith(f'{head}.')}))
    return module

  path, out = str(tmp_path / 'ViT-B-16.pt'), str(tmp_path / 'out.npz')
  torch.jit.script(module_of({**state, 'vocab_size': np.ones(())})).save(path)
  assert convert_weights.main([path, out]) == 0
  found = formats.read(out)
  assert found.keys() == clip_arrays.keys()
  for name, array in clip_arrays.items():
    np.testing.assert_array_equal(
        found[name], array.astype(np.float16).astype(np.float32), name)


def _pth(path):
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('archive/data.pkl', b'\x80\x02}q\x00.')


def test_without_torch_a_pth_is_one_line(tmp_path, monkeypatch, capsys):
  monkeypatch.setitem(sys.modules, 'torch', None)  # importing it now fails
  _pth(tmp_path / 'dino.pth')
  output = tmp_path / 'out.npz'
  assert convert_weights.main([str(tmp_path / 'dino.pth'), str(output)]) == 1
  error = capsys.readouterr().err
  assert error.count('\n') == 1 and 'pip install torch' in error
  assert not output.exists()


def test_no_module_of_ours_imports_torch(repository):
  """Only the function that reads `.pth` files does."""
  sources = [path for folder in ('models', 'train_lib', 'input_pipeline',
                                 'tools', 'configs')
             for path in (repository / folder).rglob('*.py')]
  users = [path.name for path in sources
           if 'import torch\n' in path.read_text()]
  assert users == ['convert_weights.py']


@pytest.mark.parametrize('name, content, message', [
    ('none.pth', None, 'does not exist'), ('x.npz', b'PK', 'no conversion'),
    ('empty', 'folder', 'no checkpoints')])
def test_other_inputs_are_one_line(name, content, message, tmp_path, capsys):
  path = tmp_path / name
  if content == 'folder':
    path.mkdir()
  elif content:
    path.write_bytes(content)
  assert convert_weights.main([str(path), str(tmp_path / 'out.npz')]) == 1
  error = capsys.readouterr().err
  assert error.startswith('error: ') and message in error
  assert error.count('\n') == 1


class _Code:

  def __reduce__(self):
    return exec, ('raise SystemExit("the file was executed")',)


def test_files_of_torch_itself(arrays, tmp_path, capsys):
  torch = pytest.importorskip('torch', reason='torch is not a requirement')
  state = {name: torch.from_numpy(array)
           for name, array in weights.to_timm(arrays).items()}
  path, out = str(tmp_path / 'moco.pth'), str(tmp_path / 'out.npz')
  torch.save({'state_dict': _prefixed('module.base_encoder.', state),
              'arch': 'vit', 'epoch': 3}, path)
  assert convert_weights.main([path, out]) == 0
  with np.load(out) as file:
    for name, array in arrays.items():
      np.testing.assert_array_equal(file[name], array)
  torch.save({'model': state, 'extra': _Code()}, path)
  assert convert_weights.main([path, str(tmp_path / 'other.npz')]) == 1
  assert 'could be code' in capsys.readouterr().err
  assert not (tmp_path / 'other.npz').exists()
