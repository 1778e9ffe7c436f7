# SPDX-License-Identifier: Apache-2.0
"""Embeddings, attention and MLP, against numbers worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from promptcl.models.networks import layers


def test_patches_are_read_row_by_row():
  rng = np.random.default_rng(0)
  images = rng.random((2, 8, 8, 3), np.float32)
  params = {'kernel': rng.normal(size=(4, 4, 3, 16)).astype(np.float32),
            'bias': rng.normal(size=16).astype(np.float32)}
  patches = layers.PatchEmbedding(4, 16).apply({'params': params}, images)
  # Patch 1 of the 2 x 2 grid: upper right.
  expected = np.einsum('rcx,rcxd->d', images[0, :4, 4:], params['kernel'])
  np.testing.assert_allclose(
      patches[0, 1], expected + params['bias'], rtol=1e-5, atol=1e-5)
  assert patches.shape == (2, 4, 16)


def _positions(num_prompts):
  table = layers.PositionEmbedding(num_prompts)
  x = jnp.zeros((2, 3, 4))
  return table, x, table.init(jax.random.key(0), x)


def test_rows_of_prompts_start_as_the_class_tokens():
  table, x, variables = _positions(5)
  params = variables['params']
  assert params['pos_embedding_prompts'].shape == (1, 5, 4)
  np.testing.assert_array_equal(
      params['pos_embedding_prompts'],
      params['pos_embedding'][:, :1].repeat(5, axis=1))
  assert len(np.unique(params['pos_embedding'])) == 12
  out, rows = table.apply(variables, x)
  np.testing.assert_array_equal(out[1], params['pos_embedding'][0])
  np.testing.assert_array_equal(rows, params['pos_embedding_prompts'])


def test_without_prompts_there_are_no_rows_for_them():
  table, x, variables = _positions(0)
  assert set(variables['params']) == {'pos_embedding'}
  assert table.apply(variables, x)[1] is None
  # The table's start values do not depend on the other leaf.
  np.testing.assert_array_equal(
      variables['params']['pos_embedding'],
      _positions(5)[2]['params']['pos_embedding'])


def test_a_prefix_joins_keys_and_values_after_their_projections():
  attention = layers.Attention(num_heads=2)
  rng = np.random.default_rng(0)
  x = rng.normal(size=(1, 3, 8)).astype(np.float32)
  prefix = rng.normal(size=(1, 2, 4, 2, 4)).astype(np.float32)
  params = attention.init(jax.random.key(0), x, None, slice(None))
  out = attention.apply(params, x, prefix, slice(None))
  p = params['params']
  project = lambda name: np.einsum('btd,dhe->bthe', x, p[name]['kernel'])
  query, keys, values = map(project, ('query', 'key', 'value'))
  keys = np.concatenate([prefix[:, 0], keys], axis=1)
  values = np.concatenate([prefix[:, 1], values], axis=1)
  logits = np.einsum('bqhe,bkhe->bhqk', query, keys) / 2.0  # sqrt(d) = 2
  weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  mixed = np.einsum('bhqk,bkhe->bqhe', weights, values)
  expected = np.einsum('bqhe,hed->bqd', mixed, p['out']['kernel'])
  np.testing.assert_allclose(out, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize('gelu, expected', [
    ('exact', -0.15865526), ('tanh', -0.15880801), ('quick', -0.15420423)])
def test_gelu_is_of_the_family(gelu, expected):
  # gelu(-1) is -0.5 * erfc(1 / sqrt 2), its tanh form or -1 / (1 + exp(1.702)).
  mlp = layers.Mlp(hidden=1, gelu=gelu, dropout_rate=0.0)
  one, zero = jnp.ones((1, 1)), jnp.zeros(1)
  dense = {'kernel': one, 'bias': zero}
  out = mlp.apply({'params': {'Dense_0': dense, 'Dense_1': dense}},
                  -jnp.ones((1, 1, 1)), train=False)
  assert float(out[0, 0, 0]) == pytest.approx(expected, abs=2e-7)
