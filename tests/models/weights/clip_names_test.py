# SPDX-License-Identifier: Apache-2.0
"""Published names of CLIP: there and back, and what does not fit."""

from flax import traverse_util
import jax
import numpy as np
import pytest

from promptcl.models.networks import backbones
from promptcl.models.weights import clip_names
from promptcl.models.weights import pretrained
from tests.helpers import fakes
from tests.helpers import weights

VARIANT = 'CLIP-testing'


def _shapes(model):
  images = jax.ShapeDtypeStruct(
      (1, model.image_size, model.image_size, 3), np.float32)
  return jax.eval_shape(model.init, jax.random.key(0), images)['params']


def test_openai_names_there_and_back():
  arrays = fakes.backbone_arrays(variant=VARIANT)
  theirs = weights.to_openai(arrays)
  sizes = {'input_resolution': np.array(8), 'context_length': np.array(77),
           'vocab_size': np.array(544)}
  assert clip_names.is_clip(theirs) and not clip_names.is_clip(arrays)
  assert len(theirs) == 14 + 12 * (2 + 1)
  model = backbones.create(VARIANT, image_size=fakes.IMAGE_SIZE)
  merged = traverse_util.flatten_dict(pretrained.merge(
      {**theirs, **sizes}, _shapes(model), source='file'), sep='/')
  assert merged.keys() == arrays.keys()
  for path, array in arrays.items():
    np.testing.assert_array_equal(merged[path], array, path)


def test_heads_of_published_widths_need_not_be_told():
  state = {'visual.transformer.resblocks.0.attn.out_proj.weight':
               np.arange(768 * 768).reshape(768, 768),
           'transformer.resblocks.1.attn.in_proj_bias': np.arange(1536)}
  found = clip_names.convert(state)
  stem = 'encoderblock_{}/MultiHeadDotProductAttention_0/{}'
  out = found['Transformer/' + stem.format(0, 'out/kernel')]
  assert out.shape == (12, 64, 768) and out[1, 2, 3] == 3 * 768 + 66
  key = found['text/' + stem.format(1, 'key/bias')]
  assert key.shape == (8, 64) and key[0, 0] == 512


def test_all_that_does_not_fit_is_listed():
  model = backbones.create(VARIANT, image_size=fakes.IMAGE_SIZE)
  state = weights.to_openai(fakes.backbone_arrays(variant=VARIANT))
  del state['text_projection']
  state['surprise'] = np.ones(1)
  state['token_embedding.weight'] = np.ones((5, 12))
  with pytest.raises(ValueError) as raised:
    pretrained.merge(state, _shapes(model), source='file')
  for part in ('missing text/joint_embedding/kernel', 'unexpected surprise',
               'text/token_embedding/embedding has shape [5, 12]'):
    assert part in str(raised.value), part


def test_positions_are_brought_to_the_grid_of_the_model():
  state = weights.to_openai(fakes.backbone_arrays(variant=VARIANT))
  model = backbones.create(VARIANT, image_size=2 * fakes.IMAGE_SIZE)
  merged = pretrained.merge(state, _shapes(model), source='file')
  table = merged['Transformer']['posembed_input']['pos_embedding']
  assert table.shape == (1, 17, 16)
  np.testing.assert_array_equal(
      table[0, 1], state['visual.positional_embedding'][1])  # a corner
