# SPDX-License-Identifier: Apache-2.0
"""The train step: loss, gradients, clipping, devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from promptcl.train_lib.core import parallel
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.steps import train_step as steps
from tests.helpers import fakes

pytestmark = pytest.mark.slow

ONE = jax.devices()[:1]
CALM = {'optim': 'sgd', 'grad_clip_max_norm': 0.3, 'learning_rate': 8.0,
        'prompt_pool_param.batchwise_prompt': False}
LOOSE = {**CALM, 'grad_clip_max_norm': 0.0}
NO_POOL = {'method': 'none', 'vit_classifier': 'token'}


def _train(config, devices, *, num_steps=2, info=None):
  """Trains on the same global batches of 8.

  Returns:
    Host state after each step, metrics of each, frozen leaves in the end.
  """
  model, method, optimizer, frozen, state = fakes.start(config)
  step = parallel.pmap(
      steps.make_train_step(config, model, method, optimizer,
                            global_batch_size=8),
      in_axes=(0, 0, 0, None), devices=devices)
  frozen = parallel.replicate(frozen, devices)
  state = parallel.replicate(state, devices)
  info = info or fakes.task_info(classes=(2, 3))
  states, history = [], []
  for seed in range(num_steps):
    batch = _labelled(fakes.batch(8, seed=seed), (2, 3))
    state, metrics = step(state, frozen, parallel.shard(batch, devices), info)
    states.append(parallel.unreplicate(state))
    history.append({k: float(v) for k, v in
                    parallel.unreplicate(metrics).compute().items()})
  return states, history, parallel.unreplicate(frozen)


def _labelled(batch, classes):
  return {'image': batch['image'],
          'label': np.asarray(classes, np.int32)[batch['label'] % len(classes)]}


@pytest.fixture(scope='module')
def one_device():
  return _train(fakes.config(**CALM), ONE)


@pytest.fixture(scope='module')
def eight_devices():
  return _train(fakes.config(**CALM), None)


@pytest.fixture(scope='module')
def loose():
  """Nothing is clipped, by whatever norm."""
  return _train(fakes.config(**LOOSE, grad_clip_scope='all'), ONE)


def _close(left, right, tolerance=2e-6):
  assert left.keys() == right.keys()
  for path, leaf in left.items():
    np.testing.assert_allclose(leaf, right[path], atol=tolerance, err_msg=path)


def test_eight_devices_learn_what_one_learns(one_device, eight_devices):
  """Same global batch, clipping binds, no vote."""
  assert jax.device_count() == 8
  _close(one_device[0][-1].params, eight_devices[0][-1].params)
  for left, right in zip(one_device[1], eight_devices[1], strict=True):
    del left['loss_std'], right['loss_std']  # of per-device means
    assert left == pytest.approx(right, rel=1e-4, abs=1e-6)


def test_a_vote_makes_the_number_of_devices_matter(one_device, eight_devices):
  """Alone on its device an image outvotes nobody; eight on one share a vote."""
  vote = fakes.config(**{**CALM, 'prompt_pool_param.batchwise_prompt': True})
  alone = _train(vote, None, num_steps=1)[0][0].params
  _close(alone, eight_devices[0][0].params)
  shared = _train(vote, ONE)[0][-1].params
  assert max(np.abs(leaf - one_device[0][-1].params[path]).max()
             for path, leaf in shared.items()) > 1e-3


def test_frozen_leaves_stay_as_they_are_bit_for_bit(one_device):
  (*_, state), _, frozen = one_device
  _, _, _, before, start = fakes.start(fakes.config(**CALM))
  assert frozen.keys() == before.keys()
  for path, leaf in before.items():
    np.testing.assert_array_equal(frozen[path], leaf)
  assert state.params.keys() == start.params.keys()
  assert not any(path.startswith('backbone/') for path in state.params)
  assert state.step == 2
  for path, leaf in start.params.items():
    assert not np.array_equal(state.params[path], leaf), path


def test_only_classes_of_the_task_learn(one_device):
  start = fakes.start(fakes.config(**CALM))[-1].params
  moved = one_device[0][-1].params['head/bias'] != start['head/bias']
  np.testing.assert_array_equal(
      moved, [False, False, True, True, False, False])


def test_scopes_agree_when_clipping_does_not_bind(loose):
  own = _train(fakes.config(**LOOSE, grad_clip_scope='trainable'), ONE)
  _close(loose[0][-1].params, own[0][-1].params)
  # The norm itself counts what the scope says.
  assert loose[1][0]['l2_grads'] > 1.01 * own[1][0]['l2_grads']


def test_clipping_by_the_whole_norm_shortens_the_step(one_device, loose):
  """SGD without momentum history: step 1 is rate * factor * gradient."""
  clipped, free = one_device[0][0].params, loose[0][0].params
  assert fakes.config(**CALM).grad_clip_scope == 'all'
  start = fakes.start(fakes.config(**CALM))[-1].params
  factor = 0.3 / (one_device[1][0]['l2_grads'] + 1e-6)
  assert factor < 1
  for path, leaf in start.items():
    np.testing.assert_allclose(
        clipped[path] - leaf, factor * (free[path] - leaf),
        atol=2e-6, err_msg=path)


@pytest.mark.parametrize('changes', [
    {'continual.train_mask': True}, {'continual.train_mask': False},
    {'weight_decay': 0.5, 'pull_constraint_coeff': 0.25}])
def test_the_loss_is_put_together_as_written(changes):
  config = fakes.config(**{**CALM, **changes})
  model, method, _, frozen, state = fakes.start(config)
  gradients = jax.pmap(
      steps.make_gradients(config, model, method), axis_name=parallel.AXIS,
      in_axes=(None, None, 0, None), devices=ONE)
  batch = _labelled(fakes.batch(8), (2, 3))
  info = fakes.task_info(classes=(2, 3))
  loss, logits, grads, *_ = gradients(
      state, frozen, parallel.shard(batch, ONE), info)
  params = state_lib.overlay(frozen, state.params)
  out = jax.jit(lambda v, x: model.apply(
      v, x, model.apply(v, x, method='query'), jnp.int32(0), train=True))(
          state_lib.variables(params), batch['image'])
  masked = np.array(out.logits, np.float64)
  if config.continual.train_mask:
    masked[:, [0, 1, 4, 5]] = -np.inf
  log_sum = np.log(np.exp(masked).sum(1))
  expected = np.mean(log_sum - masked[np.arange(8), batch['label']])
  expected += config.pull_constraint_coeff * out.selection.losses['pull']
  expected += 0.5 * config.weight_decay * sum(
      np.sum(leaf**2) for leaf in params.values() if leaf.ndim > 1)
  assert float(loss[0]) == pytest.approx(float(expected), rel=1e-5)
  np.testing.assert_allclose(logits[0], masked, rtol=1e-4, atol=1e-4)
  every = config.grad_clip_scope == 'all'
  assert set(grads) == (set(params) if every else set(state.params))


def test_the_rate_counts_from_the_start_of_the_task():
  config = fakes.config(**CALM, **NO_POOL, learning_rate_schedule='linear')
  info = steps.TaskInfo.create(1, np.ones(6, bool), first_step=-4,
                               steps_per_epoch=5)
  _, history, _ = _train(config, ONE, info=info)
  # State step 0 is step 5 of the task, the end of its first of two epochs.
  base = 8.0 * 8 / 256
  assert history[0]['learning_rate'] == pytest.approx(base * 0.5)
  assert history[1]['learning_rate'] == pytest.approx(base * 0.4)


def test_unit_head_by_hand():
  params = {'head/kernel': jnp.array([[3.0, 0.0], [4.0, 2.0]]),
            'head/bias': jnp.array([7.0, 7.0])}
  unit = steps.unit_head(params)
  np.testing.assert_allclose(unit['head/kernel'], [[0.6, 0.0], [0.8, 1.0]])
  np.testing.assert_array_equal(unit['head/bias'], params['head/bias'])
  other = {'prompt/prefix': jnp.ones(2)}
  assert steps.unit_head(other) is other


def test_weight_norm_acts_before_each_step():
  config = fakes.config(**{**CALM, **NO_POOL, 'learning_rate': 0.0},
                        weight_norm=True)
  (state,), _, _ = _train(config, ONE, num_steps=1)
  norms = np.linalg.norm(state.params['head/kernel'], axis=0)
  np.testing.assert_allclose(norms, 1.0, rtol=1e-5)
