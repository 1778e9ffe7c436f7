# SPDX-License-Identifier: Apache-2.0
"""Backbone, prompt and head together: read-outs, query pass."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from promptcl.models.weights import pretrained
from promptcl.train_lib.core import state as state_lib
from tests.helpers import fakes

pytestmark = pytest.mark.slow

LENGTH, TOP_K = 2, 2
NUM_TOKENS = LENGTH * TOP_K


@pytest.fixture(scope='module')
def images():
  return fakes.batch(3)['image']


@functools.lru_cache
def _run(vote=None, shade=0.0, **changes):
  """(model, parameters, output) of the prompted pass at test time.

  With another shade for each image, they choose different prompts.
  """
  model, _ = fakes.tiny_model(fakes.config(**changes))
  params = fakes.random_params(model)

  @jax.jit
  def run(variables, images):
    query = model.apply(variables, images, method='query')
    return model.apply(variables, images, query, jnp.int32(-1), train=False,
                       vote=vote)

  shades = shade * np.random.default_rng(5).normal(size=(3, 1, 1, 3))
  images = fakes.batch(3)['image'] + shades.astype(np.float32)
  return model, params, run(state_lib.variables(params), images)


@functools.lru_cache
def _all_tokens(position='before_cls'):
  """Output rows of the same forward pass, computed by hand from the parts.

  They are alike for all read-outs, and so are the parameters.
  """
  config = fakes.config(prompt_position=position)
  model, _ = fakes.tiny_model(config)
  params = fakes.random_params(model)
  images = fakes.batch(3)['image']

  @jax.jit
  def run(variables):
    query = model.apply(variables, images, method='query')
    _, selection = model.apply(variables, images, query, jnp.int32(-1),
                               train=False, method='select')
    return model.apply(
        variables, images, method=lambda m, x: m.backbone(
            x, prompt_at=m.prompt.at_layer, carry=selection.carry)).tokens

  return np.asarray(run(state_lib.variables(params)))


@pytest.mark.parametrize('readout, rows', [
    ('token', slice(NUM_TOKENS, NUM_TOKENS + 1)),
    ('gap', slice(None)),
    ('prompt', slice(0, NUM_TOKENS)),
    ('token+prompt', slice(0, NUM_TOKENS + 1)),
])
def test_readouts_by_hand(readout, rows):
  _, params, out = _run(vit_classifier=readout)
  tokens = _all_tokens()
  assert tokens.shape == (3, NUM_TOKENS + 1 + fakes.NUM_PATCHES, 16)
  expected = tokens[:, rows].mean(axis=1)
  np.testing.assert_allclose(out.pre_logits, expected, rtol=1e-4, atol=1e-5)
  logits = expected @ params['head/kernel'] + params['head/bias']
  np.testing.assert_allclose(out.logits, logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('readout, rows', [
    ('token', slice(0, 1)),
    ('gap', slice(None)),
    ('prompt', slice(1, 1 + NUM_TOKENS)),
    ('token+prompt', slice(0, 1 + NUM_TOKENS)),
])
def test_readouts_behind_the_class_token_by_hand(readout, rows):
  _, _, out = _run(vit_classifier=readout, prompt_position='after_cls')
  tokens = _all_tokens('after_cls')
  assert tokens.shape == (3, NUM_TOKENS + 1 + fakes.NUM_PATCHES, 16)
  np.testing.assert_allclose(out.pre_logits, tokens[:, rows].mean(axis=1),
                             rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('changes, trains', [
    ({}, False), ({'freeze_part': ()}, True)])
def test_positions_of_prompts_train_where_the_others_do(changes, trains):
  config = fakes.config(prompt_position='after_cls', **changes)
  _, _, _, frozen, state = fakes.start(config)
  table = 'backbone/Transformer/posembed_input/pos_embedding'
  assert state.params.keys() >= {'prompt/prompt_pool/prompt', 'head/kernel'}
  for path in (table, table + '_prompts'):
    assert (path in state.params) == trains
  assert (frozen | state.params)[table + '_prompts'].shape == (
      1, NUM_TOKENS, 16)


def test_a_file_has_the_row_of_the_class_token_for_each_prompt():
  arrays = fakes.backbone_arrays()
  model, _ = fakes.tiny_model(fakes.config(prompt_position='after_cls'))
  shapes = jax.eval_shape(model.backbone.init, jax.random.key(0),
                          fakes.batch(1)['image'])['params']
  merged = state_lib.flatten(pretrained.merge(arrays, shapes, source='fake'))
  table = arrays[pretrained.POSITIONS]
  np.testing.assert_array_equal(
      merged[pretrained.PROMPT_POSITIONS],
      table[:, :1].repeat(NUM_TOKENS, axis=1))
  np.testing.assert_array_equal(merged[pretrained.POSITIONS], table)


def test_prefixes_need_no_positions():
  config = fakes.config(**fakes.DUALPROMPT, prompt_position='after_cls')
  model, _ = fakes.tiny_model(config)
  assert model.backbone.num_positions == 0
  assert not model.prompt.order_matters


@pytest.mark.parametrize('changes', [
    {'e_prompt_layer_idx': (0, 1)},
    {'e_prompt_layer_idx': (1,)},
    {**fakes.DUALPROMPT, 'use_prefix_tune_for_e_prompt': False,
     'use_prefix_tune_for_g_prompt': False, 'e_prompt_layer_idx': (0,)}])
def test_positions_are_for_tokens_of_the_first_layer(changes):
  config = fakes.config(**changes, prompt_position='after_cls')
  with pytest.raises(ValueError, match='after_cls.*layer 0 only'):
    fakes.tiny_model(config)


def test_dropped_g_tokens_shift_the_class_token_read_out(images):
  """As in the original: G in layer 0 is dropped, yet the read-out counts it."""
  model, params, out = _run(**{
      **fakes.DUALPROMPT, 'use_prefix_tune_for_g_prompt': False,
      'use_prefix_tune_for_e_prompt': False, 'g_prompt_layer_idx': (0,),
      'e_prompt_layer_idx': (1,)})
  assert model.prompt.dropped_tokens == 2
  pool = params['prompt/prompt_pool/prompt']
  carry = np.take(pool, np.asarray(out.selection.indices)[:, 0], axis=1)
  tokens = jax.jit(lambda v: model.apply(
      v, images, method=lambda m, x: m.backbone(
          x, prompt_at=m.prompt.at_layer, carry=jnp.asarray(carry))).tokens)(
              state_lib.variables(params))
  # 2 E-tokens, class token, 4 patches; row 2 + 2 is the second patch.
  np.testing.assert_allclose(out.pre_logits, tokens[:, 4], rtol=1e-4,
                             atol=1e-5)


def test_the_query_is_the_class_token_of_the_plain_vit(images):
  model, _ = fakes.tiny_model(fakes.config())

  @jax.jit
  def run(variables):
    apply = lambda method: model.apply(variables, images, method=method)
    return (apply('query'), apply(lambda m, x: m.backbone(x)).tokens,
            apply('class_token'))

  query, plain, probe = run(state_lib.variables(fakes.random_params(model)))
  np.testing.assert_allclose(query.cls, plain[:, 0], rtol=1e-5, atol=1e-5)
  assert query.tokens is None and query.patches is None
  np.testing.assert_allclose(probe, plain[:, 0], rtol=1e-5, atol=1e-5)


def test_the_query_carries_no_gradient(images):
  model, _ = fakes.tiny_model(fakes.config())
  params = fakes.random_params(model)

  def total(params):
    return jnp.sum(model.apply(
        state_lib.variables(params), images, method='query').cls)

  grads = jax.jit(jax.grad(total))(params)
  assert all(not np.any(grad) for grad in grads.values())


def test_queries_from_patches_do_carry_one(images):
  config = fakes.config(**{'prompt_pool_param.embedding_key': 'mean',
                           'prompt_pool_param.batchwise_prompt': False})
  model, _ = fakes.tiny_model(config)

  def pull(params):
    query = model.apply(state_lib.variables(params), images, method='query')
    return model.apply(state_lib.variables(params), images, query,
                       jnp.int32(-1), train=False).selection.losses['pull']

  grads = jax.jit(jax.grad(pull))(fakes.random_params(model))
  assert np.any(grads['backbone/embedding/kernel'])
  assert not np.any(grads['backbone/cls'])


def test_a_vote_can_be_overruled():
  (_, _, voted), (_, _, alone) = _run(shade=3.0), _run(vote=False, shade=3.0)
  np.testing.assert_array_equal(
      voted.selection.indices, voted.selection.indices[:1].repeat(3, 0))
  np.testing.assert_array_equal(
      alone.selection.indices,
      np.argsort(-np.asarray(alone.selection.similarity), axis=1)[:, :TOP_K])
  assert np.any(alone.selection.indices != voted.selection.indices)


def test_bfloat16_leaves_logits_and_parameters_float32(images):
  _, _, exact = _run()
  model, _ = fakes.tiny_model(fakes.config(dtype='bfloat16'))
  shapes = state_lib.flatten(jax.eval_shape(
      lambda x: model.init(
          jax.random.key(0), x,
          model.init_with_output(jax.random.key(0), x, method='query')[0],
          jnp.int32(0), train=False), images)['params'])
  assert {leaf.dtype for leaf in shapes.values()} == {jnp.dtype('float32')}
  _, _, out = _run(dtype='bfloat16')
  assert out.logits.dtype == jnp.float32
  error = np.abs(out.pre_logits - exact.pre_logits).max()
  assert 0 < error < 0.1 * np.abs(exact.pre_logits).max()
