# SPDX-License-Identifier: Apache-2.0
"""What replay and regularizers build on: weights, masks, extra losses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from promptcl.train_lib.core import parallel
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.steps import losses
from promptcl.train_lib.steps import train_step as steps
from tests.helpers import fakes

pytestmark = pytest.mark.slow

ONE, TWO = jax.devices()[:1], jax.devices()[:2]


def _config(**changes):
  return fakes.config(optim='sgd', grad_clip_scope='trainable', **changes)


@pytest.mark.parametrize('devices', [ONE, TWO])
def test_weighted_mean_by_hand(devices):
  logits = np.array([[0.0, 0.0], [np.log(3.0), 0.0], [5.0, 5.0],
                     [0.0, -np.inf]], np.float32)
  batch = {'label': np.array([0, 0, 1, 1]),
           'weight': np.array([1.0, 0.5, 0.0, 0.0], np.float32)}
  loss = parallel.pmap(lambda x, b: jax.lax.pmean(
      losses.mean_loss(x, b), parallel.AXIS), devices=devices)
  found = loss(*parallel.shard((logits, batch), devices))[0]
  # The last row is of a class that cannot win: infinite, but without weight.
  expected = (1.0 * np.log(2.0) + 0.5 * np.log(4 / 3)) / 1.5
  assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('changes, expected', [
    ({}, [[0, 0, 1, 1, 0, 0], [1] * 6]),
    ({'replay.masked': True}, [[0, 0, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]]),
    ({'continual.train_mask': False}, None)])
def test_replayed_images_see_all_classes_or_their_tasks(changes, expected):
  batch = {'replayed': jnp.array([0.0, 1.0])}
  if changes.get('replay.masked'):  # each row has the classes of its own task
    batch['class_mask'] = jnp.array(expected, bool)
  found = losses.class_mask(_config(**changes), batch,
                           fakes.task_info(classes=(2, 3)))
  if expected is None:
    assert found is None
  else:
    np.testing.assert_array_equal(found, np.array(expected, bool))


def _batch(**more):
  batch = fakes.batch(8)
  return {'image': batch['image'], 'label': batch['label'] % 2 + np.int32(2),
          **{name: np.array(x, np.float32) for name, x in more.items()}}


def _step(config, batch, devices, **parts):
  """(state before, state after, metrics) of one step of one task."""
  model, method, optimizer, frozen, state = fakes.start(config)
  method = dataclasses.replace(method, **parts)
  state = state.replace(memory=method.memory(state.params))
  step = parallel.pmap(
      steps.make_train_step(config, model, method, optimizer,
                            global_batch_size=8),
      in_axes=(0, 0, 0, None), devices=devices)
  after, metrics = step(
      parallel.replicate(state, devices), parallel.replicate(frozen, devices),
      parallel.shard(batch, devices), fakes.task_info(1, classes=(2, 3)))
  metrics = parallel.unreplicate(metrics).compute()
  return state, parallel.unreplicate(after), metrics


def _close(left, right):
  for path, leaf in left.params.items():
    np.testing.assert_allclose(leaf, right.params[path], atol=2e-6,
                               err_msg=path)


NO_POOL = {'method': 'none', 'vit_classifier': 'token'}


@pytest.mark.parametrize('changes, places', [
    (NO_POOL, (ONE, TWO)),  # on two devices, one of them has padding
    ({'prompt_pool_param.batchwise_prompt': False}, (ONE,))])
def test_padding_changes_nothing(changes, places):
  """Against six images alone; the pull of the prompts' keys included."""
  config = _config(**changes, weight_decay=0.0)
  whole = _batch()
  alone = {name: x[:6] for name, x in whole.items()}
  whole['image'][6:] = 123.0
  ones = [1] * 6 + [0] * 2
  padded = {**whole, 'weight': np.float32(ones), 'mask': np.float32(ones)}
  _, expected, wanted = _step(config, alone, ONE)
  for devices in places:
    start, found, metrics = _step(config, padded, devices)
    _close(found, expected)
    for name in ('train_accuracy', 'loss', 'l2_grads'):
      assert float(metrics[name]) == pytest.approx(
          float(wanted[name]), rel=1e-4), name
  for path in found.params:
    assert np.any(found.params[path] != start.params[path]), path


def test_padding_has_no_vote_in_training():
  """Three images choose one prompt, five rows of padding another."""
  config = _config(**{'prompt_pool_param.top_k': 1})
  model, *_, frozen, state = fakes.start(config)
  params = state_lib.variables(state_lib.overlay(frozen, state.params))
  shades = np.random.default_rng(5).normal(0, 3, (16, 1, 1, 3))
  images = (fakes.batch(16)['image'] + shades).astype(np.float32)
  own = jax.jit(lambda x: model.apply(
      params, x, model.apply(params, x, method='query'), jnp.int32(-1),
      train=False, vote=False, method='select')[1].indices)(images)[:, 0]
  first, other = images[own == own[0]], images[own != own[0]]
  batch = _batch(mask=[1] * 3 + [0] * 5, weight=[1] * 3 + [0] * 5)
  batch['image'] = np.concatenate([first[:1]] * 3 + [other[:1]] * 5)
  start, after, _ = _step(config, batch, ONE)
  path = 'prompt/prompt_pool/prompt'
  moved = np.any(after.params[path] != start.params[path], axis=(0, 2, 3))
  np.testing.assert_array_equal(np.flatnonzero(moved), own[:1])


def test_extra_losses_see_and_teach_the_network():
  """A pull of the head to zero, known in closed form, beside no other loss."""
  config = _config(**NO_POOL, weight_decay=0.0, learning_rate=32.0,
                   grad_clip_max_norm=0.0)
  seen = {}

  def losses(context):
    seen.update(vars(context))
    half = context.forward(jax.tree.map(lambda x: x / 2, context.params))
    return {'size': 0.5 * jnp.sum(context.params['head/bias'] ** 2),
            'half': 0 * jnp.sum(half), 'logits': 0 * jnp.sum(context.logits)}

  batch = _batch(weight=[1e-9] * 8)  # nothing but the extra loss counts
  state, after, metrics = _step(
      config, batch, ONE, extra_losses=losses,
      loss_weights={'size': 0.25, 'half': 1.0, 'logits': 1.0})
  # Each is told as it enters the sum.
  told = {k: float(v) for k, v in metrics.items() if k.startswith('loss/')}
  size = 0.25 * 0.5 * np.sum(state.params['head/bias'] ** 2)
  assert told == pytest.approx(
      {'loss/size': size, 'loss/half': 0, 'loss/logits': 0}, rel=1e-5)
  assert set(seen['params']) == set(state.params)
  assert seen['logits'].shape == (8, 6) and seen['mask'].shape == (8,)
  # Rate 32 * 8 / 256 = 1 and Nesterov momentum 0.9: a first step of 1.9 g.
  bias = state.params['head/bias']
  np.testing.assert_allclose(
      after.params['head/bias'][[0, 1, 4, 5]],
      (bias - 1.9 * 0.25 * bias)[[0, 1, 4, 5]], rtol=1e-4, atol=1e-6)


def test_forward_is_the_network_at_test_time_with_other_parameters():
  config = _config(**{'prompt_pool_param.use_prompt_mask': True})
  model, *_, frozen, state = fakes.start(config)
  other = {path: leaf * 1.5 for path, leaf in state.params.items()}
  batch = _batch()
  _, after, _ = _step(
      config, batch, ONE, memory=lambda params: {'seen': jnp.zeros((8, 6))},
      update_memory=lambda context: {'seen': context.forward(other)})
  params = state_lib.variables(state_lib.overlay(frozen, other))
  plain = state_lib.variables(frozen)
  frozen_query = jax.jit(lambda x: model.apply(plain, x, method='query'))(
      batch['image'])
  expected = jax.jit(lambda x: model.apply(
      params, x, frozen_query, jnp.int32(-1), train=False).logits)(
          batch['image'])
  np.testing.assert_allclose(after.memory['seen'], expected, rtol=1e-4,
                             atol=1e-5)


def test_memory_changes_in_the_step_only_if_the_method_says_so():
  config = _config(**NO_POOL)
  remember = lambda params: {'total': jnp.float32(0), 'fixed': jnp.ones(2)}

  def update(context):
    total = jax.lax.psum(jnp.sum(context.batch['label']), parallel.AXIS)
    return {**context.memory, 'total': context.memory['total'] + total}

  batch = _batch()
  for devices in (ONE, TWO):
    _, after, _ = _step(config, batch, devices, memory=remember,
                        update_memory=update)
    assert after.memory['total'] == batch['label'].sum()
    np.testing.assert_array_equal(after.memory['fixed'], [1, 1])
  _, after, _ = _step(config, batch, ONE, memory=remember)
  assert after.memory['total'] == 0
