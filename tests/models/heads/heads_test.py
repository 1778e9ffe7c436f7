# SPDX-License-Identifier: Apache-2.0
"""Heads: logits by hand, start values."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from promptcl.models.heads import heads
from tests.helpers import fakes


def _head(features, **options):
  params = {'kernel': jnp.array([[1.0, 0.0], [2.0, -1.0]]),
            'bias': jnp.array([0.5, 0.0])}
  return heads.LinearHead(2, **options).apply(
      {'params': params}, jnp.asarray(features))


def test_head_by_hand():
  features = [[3.0, 4.0]]
  np.testing.assert_allclose(_head(features), [[11.5, -4.0]])
  np.testing.assert_allclose(_head(features, temperature=2.0), [[5.75, -2.0]])
  np.testing.assert_allclose(
      _head(features, normalize=True), [[2.7, -0.8]], rtol=1e-6)


def test_head_starts_at_zero_and_is_float32():
  params = heads.LinearHead(3).init(jax.random.key(0), jnp.ones((1, 4)))
  params = params['params']
  assert params['kernel'].shape == (4, 3) and params['bias'].shape == (3,)
  assert not np.any(params['kernel']) and not np.any(params['bias'])
  assert _head(np.ones((1, 2), jnp.bfloat16)).dtype == jnp.float32


def test_head_may_start_as_a_linear_layer_of_torch_does():
  head = heads.LinearHead(500, kernel_init='torch_uniform')
  params = head.init(jax.random.key(0), jnp.ones((1, 400)))['params']
  for name, shape in ('kernel', (400, 500)), ('bias', (500,)):
    leaf = np.asarray(params[name])
    assert leaf.shape == shape and abs(leaf).max() <= 0.05
    assert leaf.min() < -0.045 and leaf.max() > 0.045
    assert leaf.std() == pytest.approx(0.05 / np.sqrt(3), rel=0.1)


def test_head_may_start_as_a_normal_of_a_fiftieth():
  head = heads.LinearHead(500, kernel_init='trunc_normal')
  params = head.init(jax.random.key(0), jnp.ones((1, 400)))['params']
  kernel = np.asarray(params['kernel'])
  assert kernel.std() == pytest.approx(0.02, rel=0.01)
  assert abs(kernel.mean()) < 2e-4
  # timm cuts at 2, not at two deviations: 4.6 % lie beyond these.
  assert (abs(kernel) > 0.04).mean() == pytest.approx(0.0455, rel=0.05)
  np.testing.assert_array_equal(params['bias'], 0.0)


def test_the_config_names_the_start_of_the_head():
  model, _ = fakes.tiny_model(fakes.config(head_init='trunc_normal'))
  assert model.head.kernel_init == 'trunc_normal'
  assert fakes.tiny_model(fakes.config())[0].head.kernel_init == 'zero'


def test_cosine_head_by_hand():
  params = {'kernel': jnp.array([[3.0, 0.0], [4.0, -2.0]]),
            'scale': jnp.log(10.0)}
  head = heads.CosineHead(2)
  logits = head.apply({'params': params}, jnp.array([[0.0, 5.0], [3.0, 4.0]]))
  np.testing.assert_allclose(logits, [[8.0, -10.0], [10.0, -8.0]], rtol=1e-5)
  assert head.apply({'params': params}, jnp.ones((1, 2), jnp.bfloat16)
                    ).dtype == jnp.float32
  fresh = head.init(jax.random.key(0), jnp.ones((1, 4)))['params']
  assert fresh['kernel'].shape == (4, 2) and not np.any(fresh['kernel'])
  assert float(jnp.exp(fresh['scale'])) == pytest.approx(1 / 0.07)


def test_the_config_names_the_head():
  model, _ = fakes.tiny_model(fakes.config(
      head='cosine', head_init='trunc_normal'))
  assert model.head == heads.CosineHead(fakes.NUM_CLASSES, 'trunc_normal')


def test_heads_of_tasks_by_hand():
  """LayerNorm makes -1 and 1 of 3 and 5; heads of 1 and 2 classes."""
  params = {'kernel': jnp.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
            'bias': jnp.array([0.5, 0.0, 0.25]),
            'scale': jnp.array([[1.0, 2.0], [3.0, 1.0]]),
            'offset': jnp.array([[0.0, 1.0], [1.0, 0.0]])}
  apply = lambda features, **options: heads.TaskHeads((1, 2), **options).apply(
      {'params': params}, jnp.array(features))
  # Head 0 sees (-1, 3), head 1 sees (-2, 1).
  expected = [[-1 + 12 + 0.5, -4 + 5.0, -6 + 6.25]]
  np.testing.assert_allclose(apply([[3.0, 5.0]]), expected, rtol=1e-4)
  np.testing.assert_allclose(
      apply([[3.0, 5.0]], temperature=2.0), np.array(expected) / 2, rtol=1e-4)
  assert apply([[3.0, 5.0]]).dtype == jnp.float32


def test_heads_train_while_their_classes_are_in_the_task():
  mask = np.array([True, False, False, True, False, False])
  task = types.SimpleNamespace(class_mask=jnp.array(mask))
  head = heads.TaskHeads((1, 2, 3))
  factors = {name: np.asarray(factor(task)) for rule, factor in head.rates()
             for name in rule.split('|')}
  np.testing.assert_array_equal(factors['head/bias'], [1, 0, 0, 1, 1, 1])
  np.testing.assert_array_equal(factors['head/kernel'], factors['head/bias'])
  np.testing.assert_array_equal(factors['head/scale'], [[1], [0], [1]])
  np.testing.assert_array_equal(factors['head/offset'], factors['head/scale'])


@pytest.mark.parametrize('changes, sizes', [
    ({}, (2, 2, 2)), ({'continual.num_tasks': 2}, (3, 3)),
    ({'continual.init_cls': 3, 'continual.inc_cls': 2}, (3, 2, 1)),
    ({'continual.scenario': 'domain'}, (6,)),
    ({'continual.scenario': 'domain', 'continual.domain_outputs': 'separate'},
     (2, 2, 2))])
def test_which_classes_a_head_has(changes, sizes):
  config = fakes.config(task_heads=True, **changes)
  assert heads.create(config, 6).sizes == sizes


@pytest.mark.parametrize('changes, words', [
    ({'continual.num_tasks': 4}, 'do not divide into 4 heads'),
    ({'norm_pre_logits': True}, 'norm_pre_logits has no effect')])
def test_heads_that_cannot_be(changes, words):
  with pytest.raises(ValueError, match=words):
    heads.create(fakes.config(task_heads=True, **changes), 6)
