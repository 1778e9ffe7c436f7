# SPDX-License-Identifier: Apache-2.0
"""DualPrompt: G-prompts, alone and together with E-prompts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from promptcl.models import prompts
from promptcl.models.networks import vit
from tests.helpers import fakes

BACKBONE = vit.create(fakes.VARIANT, image_size=fakes.IMAGE_SIZE)
LENGTH = 2
E_TOKENS = {'use_prefix_tune_for_e_prompt': False}
G_TOKENS = {'use_prefix_tune_for_g_prompt': False}


def _prompt(**changes):
  config = fakes.config(**{**fakes.DUALPROMPT, **changes})
  return prompts.build(config, BACKBONE, fakes.STREAM).prompt


def _at_layers(prompt, g_prompts, carry, batch=3):
  params = {'params': {'prefix': g_prompts}}
  return [prompt.apply(params, layer, jnp.zeros((batch, 5, 16)), carry,
                       method='at_layer')[0] for layer in range(3)]


@pytest.mark.parametrize('changes, shape', [
    ({}, (2, 2, LENGTH, 16)),
    ({'same_key_value_for_shared': True}, (2, 1, LENGTH, 16)),
    (G_TOKENS, (2, LENGTH, 16)),
    ({'g_prompt_layer_idx': (0, 1, 2)}, (3, 2, LENGTH, 16)),
])
def test_shape_and_start_of_the_shared_prompt(changes, shape):
  model, _ = fakes.tiny_model(fakes.config(**{**fakes.DUALPROMPT, **changes}))
  images = fakes.batch(1)['image']

  @jax.jit
  def start():
    query, _ = model.init_with_output(
        jax.random.key(0), images, method='query')
    return model.init(jax.random.key(1), images, query, jnp.int32(0),
                      train=False)['params']['prompt']['prefix']

  prefix = start()
  assert prefix.shape == shape
  assert 0 <= prefix.min() < prefix.max() < 0.01


@pytest.mark.parametrize('name, expected', [
    ('uniform', 'uniform'), ('normal', 'uniform'),
    ('uniform_symmetric', 'uniform_symmetric')])
def test_the_shared_prompt_starts_as_the_pool_except_for_normal(name, expected):
  config = fakes.config(**{**fakes.DUALPROMPT,
                           'prompt_pool_param.initializer': name})
  prompt = fakes.tiny_model(config)[0].prompt
  assert prompt.g_prompt.initializer == expected
  prefix = prompt.init(jax.random.key(0), 0, jnp.zeros((1, 5, 16)), None,
                       method='at_layer')['params']['prefix']
  assert (float(prefix.min()) < -0.5) == (expected == 'uniform_symmetric')


def test_g_stands_before_e_where_a_layer_has_both():
  g_prompts = np.arange(2 * 2 * LENGTH * 16.0).reshape(2, 2, LENGTH, 16)
  carry = -jnp.ones((2, 3, 2, 2, 16))  # [n, B, 2, K * P, D]
  first, second, third = _at_layers(_prompt(), g_prompts, carry)
  assert first.prefix.shape == (3, 2, LENGTH, 2, 8)  # G alone
  assert second.prefix.shape == (3, 2, LENGTH + 2, 2, 8)  # G and E
  assert third.prefix.shape == (3, 2, 2, 2, 8)  # E alone
  np.testing.assert_array_equal(
      second.prefix[1, :, :LENGTH].reshape(2, LENGTH, 16), g_prompts[1])
  np.testing.assert_array_equal(second.prefix[:, :, LENGTH:], -1.0)
  np.testing.assert_array_equal(
      first.prefix[2].reshape(2, LENGTH, 16), g_prompts[0])
  assert first.tokens is second.tokens is third.tokens is None


def test_one_array_may_serve_keys_and_values():
  g_prompts = np.arange(2 * 1 * LENGTH * 16.0).reshape(2, 1, LENGTH, 16)
  first = _at_layers(_prompt(same_key_value_for_shared=True), g_prompts,
                     jnp.ones((2, 3, 2, 2, 16)))[0]
  assert first.prefix.shape == (3, 2, LENGTH, 2, 8)
  np.testing.assert_array_equal(first.prefix[:, 0], first.prefix[:, 1])


def test_g_tokens_enter_only_beside_e_tokens():
  # G in layers 0 and 1, E in 1 and 2: G is dropped in layer 0, yet counted.
  prompt = _prompt(**E_TOKENS, **G_TOKENS)
  g_prompts = np.arange(2 * LENGTH * 16.0).reshape(2, LENGTH, 16)
  first, second, third = _at_layers(prompt, g_prompts, -jnp.ones((2, 3, 2, 16)))
  assert first.tokens is None
  assert second.tokens.shape == (3, LENGTH + 2, 16)
  np.testing.assert_array_equal(second.tokens[1, :LENGTH], g_prompts[1])
  assert third.tokens.shape == (3, 2, 16)
  assert prompt.dropped_tokens == LENGTH
  # E: 2 layers of 2; G: 2 layers of 2, dropped or not.
  assert prompt.num_tokens == 4 + 4


def test_prefixes_and_tokens_may_meet():
  prompt = _prompt(**E_TOKENS)
  second = _at_layers(prompt, np.ones((2, 2, LENGTH, 16)),
                      jnp.ones((2, 3, 2, 16)))[1]
  assert second.tokens.shape == (3, 2, 16)
  assert second.prefix.shape == (3, 2, LENGTH, 2, 8)
  assert (prompt.dropped_tokens, prompt.num_tokens) == (0, 4)


def test_g_prompts_alone_need_no_query():
  prompt = _prompt(use_e_prompt=False)
  first, _, third = _at_layers(prompt, np.ones((2, 2, LENGTH, 16)), None)
  assert first.prefix.shape == (3, 2, LENGTH, 2, 8)
  assert third.prefix is None
  assert prompt.query_needs == ()
