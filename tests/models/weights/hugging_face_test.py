# SPDX-License-Identifier: Apache-2.0
"""Folders of Hugging Face: found, compared with the model, read."""

import json

import numpy as np
import pytest

from promptcl.models.networks import clip
from promptcl.models.weights import hugging_face
from promptcl.models.weights import pretrained
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.records import report
from tests.helpers import fakes
from tests.helpers import weights

NAME = 'CLIP-testing'


@pytest.fixture(scope='module')
def arrays():
  return fakes.backbone_arrays(variant=NAME)


@pytest.fixture
def folder(arrays, tmp_path):
  return weights.write_hugging_face(
      tmp_path / 'clip', arrays, clip.VARIANTS[NAME])


def _config(folder, **changes):
  return fakes.config(init_checkpoint=folder, model_name=NAME, **changes)


def test_weights_of_a_folder(folder, arrays):
  config = _config(folder, input_range='weights')
  loaded = state_lib.flatten(pretrained.from_config(
      config, state_lib.variables(arrays)['params']))
  for name, array in arrays.items():
    np.testing.assert_array_equal(loaded[name], array, name)
  assert config.input_range == 'clip'
  path = pretrained.local_path(config)
  assert path == f'{folder}/model.safetensors'
  digest = report.file_sha256(path)
  assert pretrained.local_path(_config(folder, init_sha256=digest)) == path
  with pytest.raises(ValueError, match=digest):
    pretrained.local_path(_config(folder, init_sha256='0' * 64))


def _write(path, **config):
  path.mkdir()
  (path / 'config.json').write_text(json.dumps(config))
  return str(path)


def test_published_configs_leave_out_most(tmp_path):
  b16 = _write(tmp_path / 'b16', model_type='clip', projection_dim=512,
               text_config={'eos_token_id': 2, 'bos_token_id': 0},
               vision_config={}, vision_config_dict={'patch_size': 16})
  b32 = _write(tmp_path / 'b32', model_type='clip', text_config_dict=None)
  hugging_face.check(b16, 'CLIP-B_16')
  hugging_face.check(b32, 'CLIP-B_32')
  with pytest.raises(ValueError, match='patch_size is 16, needs 32$'):
    hugging_face.check(b16, 'CLIP-B_32')


@pytest.mark.parametrize('changes, message', [
    ({'hidden_act': 'gelu'}, "vision_config.hidden_act is 'gelu', needs"),
    ({'num_attention_heads': 4}, 'vision_config.num_attention_heads is 4, nee'),
    ({'layer_norm_eps': 1e-6}, 'layer_norm_eps is 1e-06')])
def test_what_no_shape_tells_is_compared(changes, message, arrays, tmp_path):
  folder = weights.write_hugging_face(
      tmp_path / 'clip', arrays, clip.VARIANTS[NAME], **changes)
  with pytest.raises(ValueError, match=message):
    pretrained.from_config(_config(folder), None)


def test_other_models_and_missing_weights_are_one_line(tmp_path):
  other = _write(tmp_path / 'vit', model_type='vit')
  for name in 'ViT-B_16', 'CLIP-B_16':
    with pytest.raises(ValueError, match="'vit'; folders are read for clip"):
      hugging_face.check(other, name)
  with pytest.raises(FileNotFoundError, match='no model.safetensors'):
    hugging_face.weights(other)
  # The workdir of a run has a config.json, too.
  run = _write(tmp_path / 'run', model_name='ViT-B_16')
  assert hugging_face.is_folder(other) and not hugging_face.is_folder(run)
  assert not hugging_face.is_folder(str(tmp_path / 'nowhere'))
