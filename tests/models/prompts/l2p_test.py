# SPDX-License-Identifier: Apache-2.0
"""L2P: where the prompts of the pool go, and what the config turns on."""

import jax.numpy as jnp
import numpy as np
import pytest

from promptcl.models import prompts
from promptcl.models.networks import vit
from promptcl.train_lib.core import state as state_lib
from tests.helpers import fakes

BACKBONE = vit.create(fakes.VARIANT, image_size=fakes.IMAGE_SIZE)


def _method(**changes):
  return prompts.build(fakes.config(**changes), BACKBONE, fakes.STREAM)


def _at_layer(prompt, params, layer, carry, batch=2):
  tokens = jnp.zeros((batch, 5, 16))
  return prompt.apply({'params': params}, layer, tokens, carry,
                      method='at_layer')


def test_each_prompted_layer_has_its_own_row():
  prompt = _method(e_prompt_layer_idx=(2, 0)).prompt
  params = state_lib.variables({
      'prompt_pool/prompt': np.ones((2, 4, 2, 16)),
      'prompt_pool/key': np.ones((4, 16))})['params']
  carry = jnp.stack([jnp.full((2, 4, 16), row) for row in (1.0, 2.0)])
  found = {layer: _at_layer(prompt, params, layer, carry)[0]
           for layer in range(3)}
  np.testing.assert_array_equal(found[0].tokens, 1.0)
  np.testing.assert_array_equal(found[2].tokens, 2.0)
  assert found[1].tokens is found[1].prefix is None
  assert prompt.num_tokens == 2 * 2 * 2  # length * top_k * layers
  assert prompt.token_layers == (0, 2)


def test_a_prefix_is_split_into_heads_in_order():
  prompt = _method(use_prefix_tune_for_e_prompt=True,
                   vit_classifier='token').prompt
  params = state_lib.variables({
      'prompt_pool/prompt': np.ones((1, 2, 4, 2, 16)),
      'prompt_pool/key': np.ones((4, 16))})['params']
  carry = jnp.arange(2 * 2 * 4 * 16.0).reshape(1, 2, 2, 4, 16)
  got, _ = _at_layer(prompt, params, 0, carry)
  assert got.tokens is None
  assert got.prefix.shape == (2, 2, 4, 2, 8)  # [B, 2, P, H, D // H]
  np.testing.assert_array_equal(got.prefix[1, 0, 3, 1], carry[0, 1, 0, 3, 8:])
  assert prompt.num_tokens == 0


def test_reweighted_pooling_by_hand():
  prompt = _method(reweight_prompt=True).prompt
  params = {'reweight': jnp.log(jnp.array([1.0, 2.0, 3.0, 4.0]))}
  outputs = jnp.array([[[10.0], [20.0], [30.0], [40.0]]])
  pooled = prompt.apply({'params': params}, outputs, method='pool')
  np.testing.assert_allclose(pooled, [[(10 + 40 + 90 + 160) / 10]], rtol=1e-6)
  assert prompt.order_matters and not _method().prompt.order_matters


def test_plain_pooling_is_the_mean():
  outputs = jnp.array([[[1.0, 2.0], [3.0, 6.0]]])
  pooled = _method().prompt.apply({'params': {}}, outputs, method='pool')
  np.testing.assert_array_equal(pooled, [[2.0, 4.0]])


@pytest.mark.parametrize('changes, needs, votes', [
    ({}, ('cls',), True),
    ({'prompt_pool_param.batchwise_prompt': False}, ('cls',), False),
    ({'prompt_pool_param.embedding_key': 'mean'}, (), True),
    ({'use_e_prompt': False, 'vit_classifier': 'token'}, (), False),
])
def test_what_the_query_pass_must_deliver(changes, needs, votes):
  prompt = _method(**changes).prompt
  assert (prompt.query_needs, prompt.votes) == (needs, votes)


@pytest.mark.parametrize('changes, weight', [
    ({}, 1.0), ({'pull_constraint_coeff': 0.25}, 0.25),
    ({'pull_constraint': False}, 0.0)])
def test_weight_of_the_pull_loss(changes, weight):
  assert dict(_method(**changes).loss_weights) == {'pull': weight}


def _numpy_state(prompt_shape):
  """Host state as the run hands it to hooks: NumPy leaves."""
  rng = np.random.default_rng(0)
  shapes = {'prompt/prompt_pool/prompt': prompt_shape,
            'prompt/prompt_pool/key': (4, 16)}
  params = {path: rng.normal(size=shape).astype(np.float32)
            for path, shape in shapes.items()}
  return state_lib.TrainState(np.int32(7), params, (), {})


@pytest.mark.parametrize('share_prompt, share_key', [
    (False, False), (True, False), (False, True), (True, True)])
def test_begin_task_hands_on_what_the_config_names(share_prompt, share_key):
  method = _method(**{'prompt_pool_param.shared_prompt_pool': share_prompt,
                      'prompt_pool_param.shared_prompt_key': share_key})
  before = _numpy_state((1, 4, 2, 16))
  after = method.begin_task(before, 1, None)
  assert after.step == 7
  changed = {path for path in before.params if not np.array_equal(
      after.params[path], before.params[path])}
  assert changed == {path for path, shared in (
      ('prompt/prompt_pool/prompt', share_prompt),
      ('prompt/prompt_pool/key', share_key)) if shared}
  for path in changed:
    new, old = np.asarray(after.params[path]), before.params[path]
    axis = 1 if path.endswith('prompt') else 0
    np.testing.assert_array_equal(
        np.take(new, [2, 3], axis), np.take(old, [0, 1], axis))
