# SPDX-License-Identifier: Apache-2.0
"""Curves of the learning rate: values at chosen steps, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from promptcl import configs
from promptcl.train_lib.startup import startup
from promptcl.train_lib.steps import optimizer as optimizer_lib
from tests.helpers import fakes

MOST, LEAST = 0.8, 0.01


def _rates(steps, steps_per_epoch=3, **changes):
  """Rates of steps counted from 1; 4 epochs of 5 nominal steps, 6 frozen."""
  freeze = {'freeze_steps': 6, 'nominal_steps': 5, 'first_step_factor': 1.0}
  options = {'base': MOST, 'minimum': LEAST, 'num_epochs': 4,
             'schedule': 'freeze_cosine', **{k: v for k, v in changes.items()
                                             if k not in freeze}}
  freeze |= {k: v for k, v in changes.items() if k in freeze}
  return np.asarray(optimizer_lib.learning_rate(
      jnp.asarray(steps), jnp.int32(steps_per_epoch), freeze=freeze, **options))


def _cosine(share):
  return LEAST + (MOST - LEAST) * (1 + np.cos(np.pi * share)) / 2


def test_one_step_at_full_rate_then_frozen_ones_then_half_a_cosine():
  found = _rates(np.arange(1, 22))
  assert found[0] == np.float32(MOST)
  np.testing.assert_array_equal(found[1:7], np.float32(LEAST))
  np.testing.assert_allclose(
      found[7:], _cosine(np.arange(14) / 14), rtol=1e-6)


def test_without_the_first_step_the_curve_comes_one_earlier():
  np.testing.assert_array_equal(
      _rates(np.arange(1, 20), first_step_factor=0.0),
      _rates(np.arange(2, 21)))


def test_the_first_step_may_have_a_rate_of_its_own():
  assert _rates(1, first_step_factor=10.0) == pytest.approx(10 * MOST)
  assert _rates(2, first_step_factor=10.0) == np.float32(LEAST)


def test_the_least_rate_holds_from_the_end_on():
  np.testing.assert_array_equal(_rates([22, 23, 500]), np.float32(LEAST))


def test_steps_of_the_task_count_where_no_number_is_given():
  found = _rates([8, 9, 13], nominal_steps=0)  # 4 * 3 steps, 6 of them frozen
  np.testing.assert_allclose(found, _cosine(np.array([0, 1, 5]) / 6), rtol=1e-6)


def test_a_warm_up_rises_from_zero_to_the_highest_rate():
  found = _rates(np.arange(8, 14), warmup_epochs=1)
  np.testing.assert_allclose(
      found, [0, 0.25 * MOST, 0.5 * MOST, 0.75 * MOST, MOST, MOST], rtol=1e-6)
  # 20 - 6 - 5 steps are left for the cosine.
  assert _rates(14, warmup_epochs=1) == pytest.approx(_cosine(1 / 9))


def test_small_rates_keep_their_digits():
  found = _rates([20 + 1], freeze_steps=0, base=1.0, minimum=0.0)
  assert found[0] == pytest.approx((1 - np.cos(np.pi / 20)) / 2, rel=1e-6)


def test_rates_of_the_released_settings():
  """At the first step, frozen ones, and the last of 780."""
  config = startup.expand(configs.load('vq_prompt'))
  options = optimizer_lib.schedule_options(config, 128)
  for factor, expected in ((5.0, [0.0125, 1e-6, 1e-6, 0.0125, 2.977146e-5]),
                           (1.0, [0.0025, 1e-6, 1e-6, 0.0025, 6.75245e-6])):
    found = optimizer_lib.learning_rate(
        jnp.array([1, 2, 81, 82, 780]), jnp.int32(39),
        **{**options, 'base': factor * options['base']})
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize('step', [1, 2, 7, 8, 14, 20])
def test_multipliers_leave_the_least_rate_alone(step):
  """A leaf at 5 times the rate is one whose curve has a base 5 times higher."""
  options = dict(base=MOST, minimum=LEAST, num_epochs=4,
                 schedule='freeze_cosine', freeze={'freeze_steps': 6})
  args = jnp.int32(step), jnp.int32(5)
  rate, floor = optimizer_lib.rate_and_floor(*args, **options)
  rule = optimizer_lib.scale_by_rules((('a', 5.0),))
  ones = {'a': jnp.ones(()), 'b': jnp.ones(())}
  found, _ = rule.update(ones, rule.init(ones), ones, learning_rate=rate,
                         rate_floor=floor)
  higher = optimizer_lib.learning_rate(*args, **{**options, 'base': 5 * MOST})
  assert found['a'] * rate == pytest.approx(float(higher), rel=1e-6)
  assert found['b'] == 1


def test_the_other_schedules_have_no_floor():
  for schedule in optimizer_lib.SCHEDULES:
    _, floor = optimizer_lib.rate_and_floor(
        jnp.int32(3), jnp.int32(5), base=1.0, minimum=0.5, num_epochs=2,
        schedule=schedule, freeze={'freeze_steps': 4})
    assert bool(floor) == (schedule == 'freeze_cosine')


def test_the_lagged_cosine_repeats_its_first_epoch():
  rate = lambda epoch, **options: optimizer_lib.learning_rate(
      jnp.int32(10 * epoch + 1), jnp.int32(10), base=2.0,
      schedule='lagged_cosine', **{'num_epochs': 20, **options})
  found = [float(rate(epoch)) for epoch in range(22)]
  assert found[0] == found[1] == 2.0
  assert found[2:5] == pytest.approx(
      [2 * np.cos(0.495 * np.pi * m / 19) for m in (1, 2, 3)])
  assert found[19] == pytest.approx(2 * 0.0974, rel=1e-3)
  assert found[20] == found[21] < found[19]  # beyond the last: no lower
  assert rate(0, num_epochs=1) == 2.0


@pytest.mark.parametrize('changes, fits', [
    ({}, True), ({'freeze_cosine.freeze_steps': 10}, False),
    ({'freeze_cosine.freeze_steps': 9}, True),
    ({'freeze_cosine.freeze_steps': 9, 'warmup_epochs': 1}, False),
    ({'freeze_cosine.freeze_steps': 99, 'learning_rate_schedule': 'cosine'},
     True)])
def test_as_many_frozen_steps_as_there_are_is_refused(changes, fits):
  config = fakes.config(num_epochs=2, **{
      'learning_rate_schedule': 'freeze_cosine',
      'freeze_cosine.steps_per_epoch': 5, **changes})
  if fits:
    startup.check(config)
  else:
    with pytest.raises(ValueError, match='freeze_steps .* leaves none of the'):
      startup.check(config)
