# SPDX-License-Identifier: Apache-2.0
"""Clipping, Adam, SGD and rates against numbers worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from promptcl.train_lib.steps import optimizer as optimizer_lib
from tests.helpers import fakes

PARAMS = {'head/kernel': jnp.array([1.0, -2.0]), 'head/bias': jnp.array([0.5])}
GRADS = ({'head/kernel': jnp.array([0.1, -0.2]), 'head/bias': jnp.array([0.0])},
         {'head/kernel': jnp.array([0.3, 0.2]), 'head/bias': jnp.array([1.0])})


def _steps(rate=0.1, grad_norm=0.0, transform=None, task_index=0, **changes):
  """Parameters after each of the two updates."""
  optimizer = optimizer_lib.create(
      fakes.config(**changes), transform or optax.identity())
  params, state, history = PARAMS, optimizer.init(PARAMS), []
  for grads in GRADS:
    updates, state = optimizer.update(
        grads, state, params, grad_norm=grad_norm, learning_rate=rate,
        memory={}, task_index=task_index)
    params = optax.apply_updates(params, updates)
    history.append({k: np.asarray(v) for k, v in params.items()})
  return history


def _adam(values, rate=0.1, decay=0.0):
  """Adam over a list of scalar gradients, from 1.0, in float64."""
  theta, m, v, history = 1.0, 0.0, 0.0, []
  for t, g in enumerate(values, start=1):
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    step = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    theta -= rate * (step + decay * theta)
    history.append(theta)
  return history


@pytest.mark.parametrize('norm, limit, factor', [
    (4.0, 1.0, 1 / (4.0 + 1e-6)), (0.5, 1.0, 1.0), (1.0, 1.0, 1 / (1 + 1e-6)),
    (1e-6, 1e-6, 0.5), (4.0, 0.0, 1.0), (4.0, None, 1.0), (0.0, 1.0, 1.0)])
def test_clip_factor(norm, limit, factor):
  clip = optimizer_lib.clip_by_given_norm(limit)
  updates, _ = clip.update(GRADS[0], clip.init(PARAMS), grad_norm=norm)
  np.testing.assert_allclose(
      updates['head/kernel'], GRADS[0]['head/kernel'] * factor, rtol=1e-7)


@pytest.mark.parametrize('task, later, decay', [
    (0, 0.5, 0.25), (0, -1.0, 0.25), (2, 0.5, 0.5), (2, 0.0, 0.0),
    (2, -1.0, 0.25)])
def test_momentum_and_decay_are_those_of_torch(task, later, decay):
  """buffer <- 0.9 buffer + g + decay w; w <- w - rate buffer."""
  steps = _steps(optim='sgd', sgd_nesterov=False, task_index=task,
                 gradient_decay=0.25, later_gradient_decay=later,
                 optim_wd_ignore=('bias',))
  first = 1.0 - 0.1 * (0.1 + decay)
  second = first - 0.1 * (0.9 * (0.1 + decay) + 0.3 + decay * first)
  assert steps[0]['head/kernel'][0] == pytest.approx(first, abs=1e-6)
  assert steps[1]['head/kernel'][0] == pytest.approx(second, abs=1e-6)
  assert steps[1]['head/bias'][0] == pytest.approx(0.5 - 0.1)  # never decays


def test_decay_of_gradients_comes_behind_clipping_and_the_methods_link():
  half = optax.scale(0.5)
  first, _ = _steps(optim='sgd', sgd_nesterov=False, transform=half,
                    grad_norm=4.0, grad_clip_max_norm=1.0, gradient_decay=0.25)
  assert first['head/kernel'][0] == pytest.approx(
      1.0 - 0.1 * (0.1 / 4 / 2 + 0.25), abs=1e-6)


def test_adam_by_hand():
  first, second = _steps(optim='adam')
  expected = _adam([0.1, 0.3])
  assert expected[0] == pytest.approx(0.9, abs=1e-6)  # sign of the gradient
  assert first['head/kernel'][0] == pytest.approx(expected[0], abs=1e-6)
  assert second['head/kernel'][0] == pytest.approx(expected[1], abs=1e-5)
  assert first['head/bias'][0] == 0.5


@pytest.mark.parametrize('optim', ['adam', 'adamw'])
def test_decoupled_decay_is_times_the_rate(optim):
  _, second = _steps(optim=optim, weight_decay=0.25)
  expected = _adam([0.1, 0.3], decay=0.25)
  assert second['head/kernel'][0] == pytest.approx(expected[1], abs=1e-5)


def test_decay_may_leave_parts_out():
  first, _ = _steps(optim='adamw', weight_decay=0.25,
                    optim_wd_ignore=('bias',))
  assert first['head/bias'][0] == 0.5
  assert first['head/kernel'][0] == pytest.approx(0.9 - 0.1 * 0.25, abs=1e-6)


def test_nesterov_by_hand():
  # b = 0.1, step 0.1 + 0.9 * 0.1 = 0.19; b = 0.39, step 0.3 + 0.351 = 0.651.
  first, second = _steps(optim='sgd', sgd_momentum=0.9, weight_decay=0.25)
  assert first['head/kernel'][0] == pytest.approx(1 - 0.019, abs=1e-6)
  assert second['head/kernel'][0] == pytest.approx(1 - 0.019 - 0.0651, abs=1e-6)


def test_clipping_comes_before_the_optimizer():
  # Norm 2 halves both gradients of SGD (up to 1e-6).
  first, _ = _steps(optim='sgd', grad_norm=2.0, grad_clip_max_norm=1.0)
  assert first['head/kernel'][0] == pytest.approx(1 - 0.0095, abs=1e-6)


def test_the_transform_of_the_method_sits_after_clipping_with_its_memory():
  seen = []

  def update(updates, state, params=None, *, memory, **unused):
    del params, unused
    seen.append((float(updates['head/kernel'][0]), memory))
    return jax.tree.map(jnp.zeros_like, updates), state

  transform = optax.GradientTransformationExtraArgs(
      lambda params: optax.EmptyState(), update)
  first, _ = _steps(optim='sgd', grad_norm=2.0, transform=transform)
  assert seen[0] == (pytest.approx(0.05, rel=1e-5), {})
  np.testing.assert_array_equal(first['head/kernel'], PARAMS['head/kernel'])


def test_multipliers_scale_the_steps_of_what_they_match():
  first, _ = _steps(optim='sgd', learning_rate_multipliers=(
      ('head/ker.*', 0.5), ('head/.*', 3.0)))
  plain, _ = _steps(optim='sgd')
  move = lambda params, path: params[path] - PARAMS[path]
  np.testing.assert_allclose(move(first, 'head/kernel'),
                             0.5 * move(plain, 'head/kernel'), rtol=1e-5)
  second, _ = _steps(optim='sgd', learning_rate_multipliers=())
  np.testing.assert_array_equal(second['head/bias'], plain['head/bias'])


@pytest.mark.parametrize('rule', ['head', 'prompt/.*', 'kernel'])
def test_a_multiplier_that_matches_nothing_is_an_error(rule):
  """Rules match whole paths."""
  with pytest.raises(ValueError, match='learning_rate_multipliers'):
    _steps(learning_rate_multipliers=((rule, 0.1),))


@pytest.mark.parametrize('optim, weight', [
    ('adam', 0.25), ('sgd', 0.25), ('adamw', 0.0)])
def test_which_optimizers_also_penalise(optim, weight):
  config = fakes.config(optim=optim, weight_decay=0.25)
  assert optimizer_lib.penalty_weight(config) == weight


def _rate(step, **changes):
  options = dict(base=0.8, num_epochs=5, **changes)
  return float(optimizer_lib.learning_rate(jnp.int32(step), jnp.int32(10),
                                           **options))


@pytest.mark.parametrize('schedule, step, expected', [
    ('constant', 1, 0.8), ('constant', 50, 0.8),
    ('linear', 1, 0.8 * 0.98), ('linear', 25, 0.4), ('linear', 50, 0.0),
    ('cosine', 25, 0.4), ('cosine', 50, 0.0),
    ('cosine', 10, 0.4 * (1 + np.cos(0.2 * np.pi)))])
def test_rates_without_warmup(schedule, step, expected):
  assert _rate(step, schedule=schedule) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize('schedule, step, expected', [
    ('constant', 1, 0.08), ('constant', 9, 0.72), ('constant', 10, 0.8),
    ('linear', 5, 0.4), ('linear', 30, 0.4),  # progress (3 - 1) / (5 - 1)
    ('cosine', 30, 0.4)])
def test_rates_with_one_epoch_of_warmup(schedule, step, expected):
  assert _rate(step, schedule=schedule, warmup_epochs=1) == pytest.approx(
      expected, abs=1e-6)


def test_the_least_rate_holds_after_the_warmup_only():
  options = dict(schedule='linear', warmup_epochs=1, minimum=0.3)
  assert _rate(1, **options) == pytest.approx(0.08, abs=1e-6)
  assert _rate(50, **options) == pytest.approx(0.3, abs=1e-6)
  assert _rate(20, **options) == pytest.approx(0.6, abs=1e-6)


def test_rates_scale_with_the_global_batch():
  config = fakes.config(learning_rate=0.03, min_learning_rate=0.01)
  options = optimizer_lib.schedule_options(config, 128)
  assert (options['base'], options['minimum']) == pytest.approx((0.015, 0.005))


@pytest.mark.parametrize('schedule', ['cosine', 'linear'])
def test_rate_stays_at_its_end_in_a_phase_of_more_epochs(schedule):
  rates = [float(optimizer_lib.learning_rate(
      jnp.int32(step), jnp.int32(5), base=1.0, num_epochs=2, schedule=schedule,
      minimum=0.1)) for step in (5, 10, 14, 20)]
  assert rates == pytest.approx([0.5, 0.1, 0.1, 0.1])


@pytest.mark.parametrize('step, epoch', [(1, 0), (10, 0), (11, 1), (50, 4)])
def test_cosine_by_epoch_is_constant_within_one_and_never_zero(step, epoch):
  expected = 0.4 * (1 + np.cos(np.pi * epoch / 5))
  rate = _rate(step, schedule='cosine_by_epoch')
  assert rate == pytest.approx(expected, rel=1e-5) and rate > 0


def test_rates_of_tasks_multiply_and_where_they_are_zero_nothing_counts():
  rates = (('head/.*', lambda task: jnp.array([1.0, 0.0]) * 0.5),
           ('head/kernel', lambda task: task.index > 0))
  rates += optimizer_lib.later_rates(
      fakes.config(later_rate_multipliers=(('head/kernel', 0.1),)))
  optimizer_lib.check_rates(rates, PARAMS)
  grads = {'head/kernel': jnp.array([2.0, jnp.nan]), 'other': jnp.ones(2)}
  for task, expected in (0, [0.0, 0.0]), (1, [0.05, 0.0]):
    found = optimizer_lib.task_rates(rates, grads, fakes.task_info(task))
    assert set(found) == {'head/kernel'}
    np.testing.assert_allclose(found['head/kernel'], expected)
    rested = optimizer_lib.at_rest(grads, found)
    np.testing.assert_array_equal(rested['head/kernel'], [2.0 * task, 0.0])
    assert rested['other'] is grads['other']
    steps = optimizer_lib.at_rates(rested, found)
    np.testing.assert_allclose(steps['head/kernel'], [0.1 * task, 0.0])
  with pytest.raises(ValueError, match="'head/kern' matches no"):
    optimizer_lib.check_rates((('head/kern', None),), PARAMS)
