# SPDX-License-Identifier: Apache-2.0
"""The command that converts weights, and what it refuses."""

import sys
import zipfile

import numpy as np
import pytest
import safetensors.numpy

from promptcl.models.networks import clip
from promptcl.models.weights import formats
from promptcl.tools import convert_weights
from tests.helpers import fakes
from tests.helpers import weights

ONES = np.ones(3, np.float32)


@pytest.fixture(scope='module')
def arrays():
  return fakes.backbone_arrays()


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
  inside = {f'module.base_encoder.{name}': array
            for name, array in state.items()}
  torch.save({'state_dict': inside, 'arch': 'vit', 'epoch': 3}, path)
  assert convert_weights.main([path, out]) == 0
  with np.load(out) as file:
    for name, array in arrays.items():
      np.testing.assert_array_equal(file[name], array)
  torch.save({'model': state, 'extra': _Code()}, path)
  assert convert_weights.main([path, str(tmp_path / 'other.npz')]) == 1
  assert 'could be code' in capsys.readouterr().err
  assert not (tmp_path / 'other.npz').exists()
