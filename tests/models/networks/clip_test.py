# SPDX-License-Identifier: Apache-2.0
"""CLIP's towers: on recorded numbers, and what holds for any weights."""

import functools
import json
import pathlib

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from promptcl.models.networks import backbones
from promptcl.models.networks import clip
from promptcl.models.networks import vit
from promptcl.models.weights import pretrained
from promptcl.train_lib.core import state as state_lib
from tests.helpers import fakes

pytestmark = pytest.mark.slow

RECORDED = pathlib.Path(__file__).parents[1] / 'clip_reference.npz'
VARIANT = 'CLIP-testing'


def _tree(flat):
  return {'params': traverse_util.unflatten_dict(flat, sep='/')}


def _shapes(model):
  images = jax.ShapeDtypeStruct(
      (1, model.image_size, model.image_size, 3), np.float32)
  return jax.eval_shape(model.init, jax.random.key(0), images)['params']


def _flat_shapes(model):
  return traverse_util.flatten_dict(_shapes(model), sep='/')


def _image(model, params, images, prompt=None):
  """Embeddings of images, `prompt` [P, D] in front of the first block."""
  with jax.default_matmul_precision('highest'):
    return np.asarray(_run_image(model, params, images, prompt))


@functools.partial(jax.jit, static_argnums=0)
def _run_image(model, params, images, prompt):
  def prompt_at(layer, tokens, carry):
    if layer or prompt is None:
      return vit.LayerPrompt(), carry
    return vit.LayerPrompt(
        jnp.broadcast_to(prompt, (len(images), *prompt.shape))), carry

  return model.apply(params, images, method=lambda m, x: m.project(m(
      x, prompt_at=prompt_at, read=vit.read_class_token).tokens)[:, 0])


def _text(model, params, ids, context=None):
  with jax.default_matmul_precision('highest'):
    return np.asarray(_run_text(model, params, ids, context))


@functools.partial(jax.jit, static_argnums=0)
def _run_text(model, params, ids, context):
  return model.apply(params, ids, context, method='encode_text')


@pytest.fixture(scope='module')
def tiny():
  """The tiny variant with random weights."""
  model = backbones.create(VARIANT, image_size=fakes.IMAGE_SIZE)
  return model, _tree(fakes.backbone_arrays(variant=VARIANT))


@pytest.mark.parametrize('name, image, text', [
    ('CLIP-B_16', 86_192_640, 63_428_096),
    ('CLIP-B_32', 87_849_216, 63_428_096)])
def test_published_numbers_of_parameters(name, image, text):
  shapes = _flat_shapes(backbones.create(name, image_size=224))
  sizes = {path: int(np.prod(leaf.shape)) for path, leaf in shapes.items()}
  told = sum(n for path, n in sizes.items() if path.startswith(clip.TEXT))
  assert told == text
  assert sum(sizes.values()) == image + text + sizes.pop(clip.SCALE) == (
      image + text + 1)


def test_the_default_freezes_all_of_it(tiny):
  for path in traverse_util.flatten_dict(tiny[1]['params'], sep='/'):
    assert any(part in '/' + path for part in fakes.config().freeze_part), path


def test_other_methods_run_on_it_and_train_nothing_of_it():
  config = fakes.config(method='l2p', model_name=VARIANT, head='cosine')
  model, _, _, frozen, state = fakes.start(config)
  assert not any(path.startswith('backbone/') for path in state.params)

  def forward(params, images):
    query = model.apply(params, images, method='query')
    return model.apply(params, images, query, jnp.int32(0), train=True)

  out = jax.eval_shape(forward, state_lib.variables(frozen | state.params),
                       fakes.batch(3)['image'])
  assert out.logits.shape == (3, fakes.NUM_CLASSES)


@functools.cache
def _recorded():
  """(model, parameters, arrays) of what transformers computed."""
  with np.load(RECORDED) as file:
    arrays = {name: file[name] for name in file.files}
  told = json.loads(str(arrays['config']))
  image, text = told['vision_config'], told['text_config']
  model = clip.Clip(
      patch_size=8, width=24, depth=2, num_heads=3, mlp_dim=32, image_size=16,
      traits=clip.TRAITS, joint_width=20, text_shape=clip.TextShape(
          16, 2, 2, 28, context_length=12, vocabulary=40))
  assert (image['hidden_size'], text['hidden_size']) == (24, 16)
  state = {name.removeprefix('params/'): np.asarray(array, np.float32)
           for name, array in arrays.items() if name.startswith('params/')}
  params = pretrained.merge(state, _shapes(model), source='recorded')
  return model, {'params': params}, arrays


def test_embeddings_are_those_of_transformers():
  model, params, want = _recorded()
  image = _image(model, params, want['images'].transpose(0, 2, 3, 1))
  text = _text(model, params, want['ids'])
  np.testing.assert_allclose(image, want['image_embeddings'], atol=5e-6)
  np.testing.assert_allclose(text, want['text_embeddings'], atol=5e-6)
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  scale = np.exp(params['params'][clip.SCALE])
  np.testing.assert_allclose(scale * unit(image) @ unit(text).T,
                             want['logits_per_image'], atol=5e-6)


def test_the_recording_is_what_transformers_computes_today():
  pytest.importorskip('transformers', reason='recorded with transformers')
  pytest.importorskip('torch', reason='recorded with torch')
  from tests.models import record_clip
  want = _recorded()[2]
  for name, array in record_clip.record().items():
    if array.dtype.kind == 'f':
      np.testing.assert_allclose(array, want[name], atol=1e-5, err_msg=name)


def test_embeddings_are_those_of_the_original(shared):
  """A copy of openai/CLIP: also an image prompt and learned context."""
  path = shared / 'parity/torch_ports/clip_pgp.npz'
  if not path.is_file():
    pytest.skip(f'no {path}')
  with np.load(path) as file:
    want = {name: file[name] for name in file.files}
  sizes = json.loads(str(want['meta']))['config']
  model = clip.Clip(
      patch_size=sizes['patch'], width=sizes['width'], depth=sizes['layers'],
      num_heads=sizes['heads'], mlp_dim=4 * sizes['width'],
      image_size=sizes['img'], traits=clip.TRAITS, joint_width=sizes['out'],
      text_shape=clip.TextShape(
          sizes['twidth'], sizes['tlayers'], sizes['theads'],
          4 * sizes['twidth'], vocabulary=len(want['vocab_ids'])))
  state = {name.removeprefix('params/'): array for name, array in want.items()
           if name.startswith('params/') and '_pool.' not in name}
  params = {'params': pretrained.merge(state, _shapes(model), source='file')}
  images = want['task0/test_images'].transpose(0, 2, 3, 1)
  close = functools.partial(np.testing.assert_allclose, atol=2e-5)
  close(_image(model, params, images), want['forward/image_features_no_prompt'])
  prompt = want['params/image_prompt_pool.0.weight']
  close(_image(model, params, images, prompt), want['forward/image_features'])
  ids = want['class_tokens']
  close(_text(model, params, ids), want['forward/encode_text_of_class_tokens'])
  close(_text(model, params, ids[:10], want['params/text_prompt_pool.0.ctx']),
        want['forward/text_features0'])
  # Small numbers before a norm tell one epsilon from another.
  for name in 'cls', 'embedding', 'Transformer':
    part = params['params'][name]
    if name == 'Transformer':
      part['posembed_input'] = jax.tree.map(
          lambda x: 0.01 * x, part['posembed_input'])
    else:
      params['params'][name] = jax.tree.map(lambda x: 0.01 * x, part)
  close(_image(model, params, images),
        want['forward/image_features_small_embeddings'])


def test_what_follows_the_end_token_changes_nothing(tiny):
  model, params = tiny
  ids = np.array([[542, 5, 9, 7, 543]])
  plain = _text(model, params, ids)
  for padding in [0] * 4, [543] * 4, [1, 2, 3, 4]:
    longer = np.concatenate([ids, [padding]], axis=1)
    np.testing.assert_allclose(_text(model, params, longer), plain, atol=1e-5)
  other = ids.copy()
  other[0, 2] = 8
  assert np.abs(_text(model, params, other) - plain).max() > 1e-2


def test_context_takes_the_place_of_the_tokens_behind_the_first(tiny):
  model, params = tiny
  table = params['params']['text']['token_embedding']['embedding']
  words = np.array([[542, 5, 9, 7, 11, 543], [542, 5, 9, 3, 543, 0]])
  blanks = words.copy()
  blanks[:, 1:3] = 1
  plain = _text(model, params, words)
  np.testing.assert_allclose(
      _text(model, params, blanks, table[[5, 9]]), plain, atol=1e-5)
  each = np.stack([table[[5, 9]], table[[4, 4]]])
  found = _text(model, params, blanks, each)
  np.testing.assert_allclose(found[0], plain[0], atol=1e-5)
  assert np.abs(found[1] - plain[1]).max() > 1e-2


def test_prompts_of_the_first_block_go_through_the_norm_before_it(tiny):
  model, params = tiny
  prompt = np.random.default_rng(1).normal(size=(2, 16)).astype(np.float32)

  def prompt_at(layer, tokens, carry):
    tokens = jnp.broadcast_to(prompt, (3, 2, 16))
    return vit.LayerPrompt(None if layer else tokens), carry

  first = jax.jit(lambda params, x: model.apply(
      params, x, prompt_at=prompt_at).block_inputs[0])(
          params, fakes.batch(3)['image'])
  norm = params['params']['Transformer']['encoder_pre_norm']
  centred = prompt - prompt.mean(axis=1, keepdims=True)
  unit = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
  np.testing.assert_allclose(
      first[0, :2], unit * norm['scale'] + norm['bias'], atol=1e-5)


def test_prefixes_join_the_keys_of_the_image_tower(tiny):
  model, params = tiny
  images = fakes.batch(2)['image']
  prefix = np.random.default_rng(1).normal(size=(2, 2, 3, 2, 8))
  run = jax.jit(lambda params, prompt_at: model.apply(
      params, images, prompt_at=prompt_at).tokens, static_argnums=1)
  prefixed = run(params, lambda layer, tokens, carry: (
      vit.LayerPrompt(prefix=prefix if layer == 1 else None), carry))
  plain = run(params, vit.no_prompts)
  assert prefixed.shape == plain.shape == (2, 5, 16)
  assert np.abs(prefixed - plain).max() > 1e-3


def test_bfloat16_is_near_and_keeps_parameters_float32(tiny):
  model, params = tiny
  half = model.clone(dtype=jnp.bfloat16)
  assert {leaf.dtype for leaf in _flat_shapes(half).values()} == {
      jnp.dtype('float32')}
  ids, images = np.array([[542, 5, 9, 7, 543]]), fakes.batch(2)['image']
  for exact, near in ((_text(model, params, ids), _text(half, params, ids)),
                      (_image(model, params, images),
                       _image(half, params, images))):
    assert near.dtype == jnp.bfloat16
    error = np.abs(near.astype(np.float32) - exact).max()
    assert 0 < error < 0.1 * np.abs(exact).max()
