# SPDX-License-Identifier: Apache-2.0
"""Pretrained files: names, position tables, complaints, a real backbone."""

import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from promptcl.models.heads import heads
from promptcl.models.networks import vit
from promptcl.models.weights import formats
from promptcl.models.weights import pretrained
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.records import report
from tests.helpers import fakes
from tests.helpers import http_server

POSITIONS = pretrained.POSITIONS


def _tree(arrays):
  return state_lib.variables(arrays)['params']


def _merged(arrays, like):
  return state_lib.flatten(
      pretrained.merge(arrays, _tree(like), source='file.npz'))


@pytest.mark.parametrize('rename', [lambda x: x, fakes.published_names])
def test_both_schemes_of_names(rename, tmp_path):
  arrays = fakes.backbone_arrays()
  np.savez(tmp_path / 'vit.npz', **rename(arrays))
  loaded = state_lib.flatten(
      pretrained.load(str(tmp_path / 'vit.npz'), _tree(arrays)))
  assert set(loaded) == set(arrays)
  for path, array in arrays.items():
    np.testing.assert_array_equal(loaded[path], array, path)


def test_the_published_names_differ():
  arrays = fakes.backbone_arrays()
  assert (set(fakes.published_names(arrays)) ^ set(arrays)) != set()


def test_head_and_pre_logits_are_dropped():
  arrays = fakes.backbone_arrays()
  extra = {'head/kernel': np.ones((16, 5)), 'head/bias': np.ones(5),
           'pre_logits/kernel': np.ones((16, 16)),
           'pre_logits/bias': np.ones(16)}
  assert set(_merged({**arrays, **extra}, arrays)) == set(arrays)


def test_positions_of_a_finer_grid_by_hand():
  # 2 x 2 -> 3 x 3, corners on corners: the new points lie halfway.
  table = np.array([9, 0, 2, 4, 10], np.float32).reshape(1, 5, 1)
  resized = pretrained.resize_positions(table, 10)
  np.testing.assert_allclose(
      resized[0, :, 0], [9, 0, 1, 2, 2, 4, 6, 4, 7, 10])
  assert resized.shape == (1, 10, 1)


@pytest.mark.parametrize('old, new', [(14, 7), (14, 24), (7, 2)])
def test_corners_of_the_grid_stay(old, new):
  table = np.random.default_rng(0).normal(
      size=(1, 1 + old * old, 3)).astype(np.float32)
  before = table[0, 1:].reshape(old, old, 3)
  resized = pretrained.resize_positions(table, 1 + new * new)
  after = resized[0, 1:].reshape(new, new, 3)
  np.testing.assert_array_equal(resized[:, 0], table[:, 0])
  for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
    np.testing.assert_allclose(after[corner], before[corner], atol=1e-6)


def test_positions_of_the_same_grid_are_untouched():
  table = np.ones((1, 5, 2), np.float32)
  assert pretrained.resize_positions(table, 5) is table


@pytest.mark.parametrize('rows, tokens', [(5, 8), (7, 10)])
def test_grids_that_are_not_square_are_refused(rows, tokens):
  with pytest.raises(ValueError, match='square'):
    pretrained.resize_positions(np.ones((1, rows, 2), np.float32), tokens)


def test_merge_brings_positions_to_the_grid_of_the_model():
  small, large = (fakes.backbone_arrays(image_size=s) for s in (8, 16))
  merged = _merged(small, large)
  assert merged[POSITIONS].shape == (1, 17, 16)
  np.testing.assert_allclose(merged[POSITIONS][0, 1], small[POSITIONS][0, 1])


def test_all_that_does_not_fit_is_listed_at_once():
  like = fakes.backbone_arrays()
  arrays = dict(like)
  del arrays['cls'], arrays['Transformer/encoder_norm/bias']
  arrays['embedding/bias'] = np.ones(17, np.float32)
  arrays['surprise'] = np.ones(1, np.float32)
  with pytest.raises(ValueError) as raised:
    _merged(arrays, like)
  message = str(raised.value)
  assert '\n' not in message
  for part in ('file.npz', 'missing cls', 'unexpected surprise',
               'missing Transformer/encoder_norm/bias', 'embedding/bias',
               '[17]', '[16]'):
    assert part in message, part
  assert 'embedding/kernel' not in message


def test_what_all_blocks_share_is_one_entry():
  like = fakes.backbone_arrays()
  arrays = {k: v for k, v in like.items() if '/query/bias' not in k}
  for i in (1, 2):
    arrays[f'Transformer/encoderblock_{i}/LayerNorm_0/scale'] = np.ones(9)
  arrays['Transformer/encoderblock_7/strange'] = np.ones(1)
  with pytest.raises(ValueError) as raised:
    _merged(arrays, like)
  message = str(raised.value)
  for part in ('missing Transformer/encoderblock_*/MultiHeadDotProduct'
               'Attention_0/query/bias (in 3 blocks, 0 to 2)',
               'unexpected Transformer/encoderblock_7/strange',
               'Transformer/encoderblock_*/LayerNorm_0/scale has shape [9], '
               'needs [16] (in 2 blocks, 1 to 2)'):
    assert part in message, message
  assert message.count(';') == 3  # the first entry: 8 blocks instead of 3


def test_a_hundred_strange_names_do_not_fill_the_screen():
  like = fakes.backbone_arrays()
  strange = {f'strange_{i}': np.ones(1) for i in range(100)}
  with pytest.raises(ValueError, match='and 92 more unexpected$'):
    _merged({**like, **strange}, like)


def test_another_size_is_told_first():
  large = {k: np.zeros(v.shape) for k, v in fakes.backbone_arrays(
      variant='ViT-digits').items()}
  with pytest.raises(ValueError) as raised:
    _merged(large, fakes.backbone_arrays())
  message = str(raised.value)
  assert ('the file has width 128 and 4 blocks, the model width 16 and 3 blocks'
          in message)
  assert 'and 8 more unexpected' in message and 'more misshaped' in message
  assert len(message) < 2500


def test_a_position_table_without_rows_is_listed():
  like = fakes.backbone_arrays()
  with pytest.raises(ValueError, match=r'pos_embedding has shape \[5\]'):
    _merged({**like, POSITIONS: np.ones(5)}, like)


def test_a_grid_that_is_not_square_names_the_file():
  like = fakes.backbone_arrays()
  with pytest.raises(ValueError, match='file.npz.*square'):
    _merged({**like, POSITIONS: np.ones((1, 8, 16))}, like)


def test_the_checksum_of_a_file_is_checked(tmp_path):
  path = fakes.write_checkpoint(tmp_path / 'vit.npz')
  digest = report.file_sha256(path)
  right = fakes.config(init_checkpoint=path, init_sha256=digest.upper())
  assert pretrained.local_path(right) == path
  wrong = fakes.config(init_checkpoint=path, init_sha256='0' * 64)
  with pytest.raises(ValueError, match=f'{digest}.*init_sha256 is 000'):
    pretrained.local_path(wrong)
  absent = fakes.config(init_checkpoint=path + 'x', init_sha256=digest)
  with pytest.raises(FileNotFoundError, match='vit.npzx'):
    pretrained.local_path(absent)


def test_weights_from_an_address(tmp_path):
  path = fakes.write_checkpoint(tmp_path / 'vit.npz')
  like = fakes.backbone_arrays()
  content = pathlib.Path(path).read_bytes()
  with http_server.serve(content, breaks=[20_000]) as server:
    config = fakes.config(
        init_checkpoint=server.url, cache_dir=str(tmp_path / 'cache'),
        init_sha256=report.file_sha256(path), input_range='weights')
    loaded = state_lib.flatten(pretrained.from_config(config, _tree(like)))
  assert server.requests == ['', 'bytes=16384-']
  assert config.input_range == 'minus_one_one'
  for name, array in like.items():
    np.testing.assert_array_equal(loaded[name], array, name)
  kept = pretrained.local_path(config)  # the server is gone
  assert report.file_sha256(kept) == config.init_sha256


def test_random_weights_are_no_weights():
  assert pretrained.from_config(fakes.config(), None) is None


def test_deit_classifies_imagenet_as_the_reference_does(shared):
  """Real weights, exact GELU, the file's own head put back by hand."""
  path = str(shared / 'data/backbones/deit_tiny_patch16_224.npz')
  with np.load(shared / 'data/imagenet_check.npz') as file:
    chosen = slice(0, 40, 5)  # 8 of 40: CPU time
    images = file['test_images'][chosen].astype(np.float32) / 255
    reference = file['reference_logits'][chosen]
  images -= np.array([0.485, 0.456, 0.406], np.float32)
  images /= np.array([0.229, 0.224, 0.225], np.float32)
  arrays = formats.read(path)
  model = vit.create('DeiT-Ti_16', image_size=224)
  like = {k: v for k, v in arrays.items() if not k.startswith('head/')}
  params = pretrained.load(path, _tree(pretrained.canonical(like)))
  features = model.apply({'params': params}, jnp.asarray(images),
                         read=vit.read_class_token).tokens[:, 0]
  head = {name: arrays[f'head/{name}'] for name in ('kernel', 'bias')}
  logits = heads.LinearHead(1000).apply({'params': head}, features)
  np.testing.assert_allclose(logits, reference, atol=1e-3)
