# SPDX-License-Identifier: Apache-2.0
"""The backbone: sizes, prompts in their places, rows that are read."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from promptcl.models.networks import vit
from promptcl.train_lib.core import state as state_lib
from tests.helpers import fakes

pytestmark = pytest.mark.slow

# name: (patch, width, depth, MLP width, image side), of the papers.
GEOMETRY = {
    'ViT-Ti_16': (16, 192, 12, 768, 224),
    'ViT-S_16': (16, 384, 12, 1536, 224),
    'ViT-B_16': (16, 768, 12, 3072, 224),
    'ViT-B_32': (32, 768, 12, 3072, 224),
    'ViT-L_16': (16, 1024, 24, 4096, 224),
    'ViT-L_32': (32, 1024, 24, 4096, 224),
    'ViT-H_14': (14, 1280, 32, 5120, 224),
    'DeiT-Ti_16': (16, 192, 12, 768, 224),
    'DeiT-S_16': (16, 384, 12, 1536, 224),
    'DeiT-B_16': (16, 768, 12, 3072, 224),
    'ViT-digits': (4, 128, 4, 512, 32),
    'testing': (4, 16, 3, 32, 8),
}
# Without head, from the literature: they guard the formula below.
PUBLISHED = {'ViT-Ti_16': 5_524_416, 'ViT-S_16': 21_665_664,
             'ViT-B_16': 85_798_656, 'ViT-L_16': 303_301_632}


def _expected_count(patch, width, depth, mlp, side):
  embedding = patch * patch * 3 * width + width
  positions = (1 + (side // patch)**2) * width + width  # and class token
  attention = 4 * (width * width + width)
  block = attention + 2 * width * mlp + mlp + width + 4 * width
  return embedding + positions + depth * block + 2 * width


@functools.cache
def _shapes(name, side):
  model = vit.create(name, image_size=side)
  images = jax.ShapeDtypeStruct((1, side, side, 3), np.float32)
  return state_lib.flatten(
      jax.eval_shape(model.init, jax.random.key(0), images)['params'])


def test_no_variant_goes_untested():
  assert set(GEOMETRY) == set(vit.VARIANTS)


@pytest.mark.parametrize('name', GEOMETRY)
def test_parameter_count(name):
  shapes = _shapes(name, GEOMETRY[name][-1])
  count = sum(int(np.prod(leaf.shape)) for leaf in shapes.values())
  assert count == _expected_count(*GEOMETRY[name])
  assert count == PUBLISHED.get(name, count)


@pytest.mark.parametrize('name, heads', [
    ('ViT-Ti_16', 3), ('ViT-S_16', 6), ('ViT-B_16', 12), ('ViT-B_32', 12),
    ('ViT-L_16', 16), ('ViT-L_32', 16), ('ViT-H_14', 16)])
def test_number_of_heads(name, heads):
  # The count of parameters does not depend on it.
  kernel = ('Transformer/encoderblock_0/MultiHeadDotProductAttention_0/query/'
            'kernel')
  width = GEOMETRY[name][1]
  assert _shapes(name, 224)[kernel].shape == (width, heads, width // heads)


@pytest.mark.parametrize('name, side, word', [
    ('ViT-B_17', 224, 'ViT-B_16'), ('ViT-B_16', 15, 'patch')])
def test_what_cannot_be_built_says_so(name, side, word):
  with pytest.raises(ValueError, match=word):
    vit.create(name, image_size=side)


@pytest.fixture(scope='module')
def tiny():
  """The testing variant, random parameters of every kind, two images."""
  model = vit.create(fakes.VARIANT, image_size=fakes.IMAGE_SIZE)
  params = state_lib.variables(fakes.backbone_arrays())
  return model, params, fakes.batch(2)['image']


@pytest.fixture(scope='module')
def plain(tiny):
  """What comes out of it without prompts."""
  return _encode(tiny)


def _encode(tiny, *, carry=None, **options):
  model, params, images = tiny
  return jax.jit(lambda *args: model.apply(*args, carry=carry, **options))(
      params, images)


def _tokens_at(layers, count=2):
  """Prompts of `count` tokens, each filled with its layer's number + 1."""
  def prompt_at(layer, tokens, carry):
    if layer not in layers:
      return vit.LayerPrompt(), carry
    shape = (tokens.shape[0], count, tokens.shape[2])
    return vit.LayerPrompt(tokens=jnp.full(shape, layer + 1.0)), carry
  return prompt_at


def test_class_token_and_positions_enter_the_first_block(tiny, plain):
  model, params, images = tiny
  flat = state_lib.flatten(params['params'])
  table = flat['Transformer/posembed_input/pos_embedding'][0]
  entered = plain.block_inputs[0]
  np.testing.assert_allclose(entered[1, 0], flat['cls'][0, 0] + table[0],
                             rtol=1e-6)
  patches = jax.jit(functools.partial(model.apply, method='embed'))(
      params, images)
  np.testing.assert_allclose(entered[:, 1:], patches + table[1:], rtol=1e-6)


def test_prompt_tokens_stand_in_front_without_position(tiny, plain):
  features = _encode(tiny, prompt_at=_tokens_at({0, 2}))
  assert features.layout.num_prompts == 4
  assert features.tokens.shape == (2, 2 + 2 + 1 + fakes.NUM_PATCHES, 16)
  first, second, third = features.block_inputs
  np.testing.assert_array_equal(first[:, :2], 1.0)
  np.testing.assert_array_equal(first[:, 2:], plain.block_inputs[0])
  assert second.shape[1] == first.shape[1]
  np.testing.assert_array_equal(third[:, :2], 3.0)  # before earlier prompts
  assert third.shape[1] == second.shape[1] + 2


@pytest.fixture(scope='module')
def positioned(tiny):
  """The same with room for 3 prompt tokens behind the class token."""
  _, variables, images = tiny
  flat = dict(state_lib.flatten(variables['params']))
  rng = np.random.default_rng(1)
  flat['Transformer/posembed_input/pos_embedding_prompts'] = rng.normal(
      size=(1, 3, 16)).astype(np.float32)
  model = vit.create(fakes.VARIANT, image_size=fakes.IMAGE_SIZE).clone(
      num_positions=3)
  return model, state_lib.variables(flat), images


def test_prompts_with_positions_stand_behind_the_class_token(plain, positioned):
  rows = state_lib.flatten(positioned[1]['params'])[
      'Transformer/posembed_input/pos_embedding_prompts']
  plain = plain.block_inputs[0]
  features = _encode(positioned, prompt_at=_tokens_at({0}, count=3))
  first = features.block_inputs[0]
  np.testing.assert_array_equal(first[:, :1], plain[:, :1])
  np.testing.assert_allclose(first[0, 1:4], 1.0 + rows[0], rtol=1e-6)
  np.testing.assert_array_equal(first[:, 4:], plain[:, 1:])
  assert features.layout == vit.Layout(3, class_first=True)
  assert features.tokens.shape == (2, 1 + 3 + fakes.NUM_PATCHES, 16)


def test_without_prompts_positions_for_them_change_nothing(plain, positioned):
  other = _encode(positioned)
  np.testing.assert_array_equal(plain.tokens, other.tokens)
  part = _encode(positioned, read=vit.read_class_token)
  np.testing.assert_allclose(part.tokens, plain.tokens[:, :1], atol=1e-5)


@pytest.mark.parametrize('layers, count', [({1}, 3), ({0}, 2)])
def test_prompts_must_fit_their_positions(positioned, layers, count):
  with pytest.raises(ValueError, match='3 before block 0'):
    _encode(positioned, prompt_at=_tokens_at(layers, count=count))


@pytest.mark.parametrize('layout, cls, prompts, both', [
    (vit.Layout(), [0], [], [0]),
    (vit.Layout(2), [2], [0, 1], [0, 1, 2]),
    (vit.Layout(2, class_first=True), [0], [1, 2], [0, 1, 2]),
    (vit.Layout(class_first=True), [0], [], [0])])
def test_layout_by_hand(layout, cls, prompts, both):
  rows = list(range(5))  # prompts, class token, patches
  assert rows[vit.read_class_token(layout)] == cls
  assert rows[layout.prompts] == prompts
  assert rows[layout.prompts_and_class] == both
  assert rows[vit.read_all(layout)] == rows


def test_prompts_see_live_tokens_and_hand_a_carry_on(tiny):
  seen = []

  def prompt_at(layer, tokens, carry):
    seen.append((layer, carry))
    # The prompt is the mean of the live tokens, so it shows what they were.
    return vit.LayerPrompt(tokens=tokens.mean(1, keepdims=True)), carry + 1

  features = _encode(tiny, prompt_at=prompt_at, carry=10)
  assert seen == [(0, 10), (1, 11), (2, 12)]
  for entered in features.block_inputs:
    np.testing.assert_allclose(
        entered[:, 0], entered[:, 1:].mean(1), rtol=1e-5, atol=1e-5)


@pytest.fixture(scope='module')
def whole(tiny):
  """What comes out of it with four prompt tokens, all rows."""
  return _encode(tiny, prompt_at=_tokens_at({0, 1}))


@pytest.mark.parametrize('read, rows', [
    (vit.read_class_token, slice(4, 5)),
    (lambda layout: layout.prompts, slice(0, 4)),
    (lambda layout: layout.prompts_and_class, slice(0, 5)),
])
def test_rows_that_are_read_equal_a_slice_of_the_whole(tiny, whole, read, rows):
  part = _encode(tiny, prompt_at=_tokens_at({0, 1}), read=read)
  np.testing.assert_allclose(part.tokens, whole.tokens[:, rows],
                             rtol=1e-5, atol=1e-5)


def test_deit_has_the_exact_gelu_and_the_original_family_not():
  assert {name for name, variant in vit.VARIANTS.items()
          if variant.exact_gelu} == {'DeiT-Ti_16', 'DeiT-S_16', 'DeiT-B_16'}


def test_bfloat16_computes_so_and_keeps_parameters_float32(tiny, plain):
  _, params, images = tiny
  model = vit.create(fakes.VARIANT, image_size=fakes.IMAGE_SIZE,
                     dtype=jnp.bfloat16)
  fresh = state_lib.flatten(jax.eval_shape(
      model.init, jax.random.key(0), images)['params'])
  assert {leaf.dtype for leaf in fresh.values()} == {jnp.dtype('float32')}
  features = jax.jit(model.apply)(params, images)
  assert features.tokens.dtype == jnp.bfloat16
  exact = plain.tokens
  error = np.abs(features.tokens.astype(np.float32) - exact)
  assert 0 < error.max() < 0.05 * np.abs(exact).max()


def test_dropout_acts_in_training_only(tiny, plain):
  _, params, images = tiny
  model = vit.create(fakes.VARIANT, image_size=fakes.IMAGE_SIZE).clone(
      dropout_rate=0.5)

  @functools.partial(jax.jit, static_argnames='train')
  def run(train):
    return model.apply(params, images, train=train,
                       rngs={'dropout': jax.random.key(1)}).tokens

  still = run(False)
  np.testing.assert_allclose(still, plain.tokens, atol=1e-5)
  assert np.abs(run(True) - still).max() > 0.1
