# SPDX-License-Identifier: Apache-2.0
"""Losses and memory of replay: numbers by hand, then within the real step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from promptcl.models.parts import base
from promptcl.train_lib import program as program_lib
from promptcl.train_lib.around import replay
from promptcl.train_lib.core import parallel
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.startup import startup
from promptcl.train_lib.steps import losses
from promptcl.train_lib.steps import train_step as steps
from tests.helpers import fakes

ONE = jax.devices()[:1]


def _per_device(fn, *arrays):
  """Runs `fn` as a step runs it, on arrays [devices, ...]."""
  return jax.vmap(fn, axis_name=parallel.AXIS)(*arrays)


class TestDarkLosses:

  # Two devices of five rows: new, distilled, distilled, labelled, review.
  LOGITS = jnp.array([[[9, 9], [1, 2], [7, 7], [0, 0], [5, 5]],
                      [[9, 9], [3, 0], [4, 6], [0, np.log(3)], [5, 5]]], float)
  BATCH = {
      'label': jnp.array([[0, 0, 0, 1, 0], [0, 0, 0, 0, 0]]),
      'slot': jnp.array([[3, 0, 0, 3, 3], [1, 2, 1, 3, 3]]),
      'dark': jnp.array([[0, 1, 1, 0, 0]] * 2, float),
      'replayed': jnp.array([[0, 1, 1, 1, 1]] * 2, float),
      'weight': jnp.array([[1, 0, 0, 0, 1]] * 2, float)}
  # The third row of the first device is padding.
  MASK = jnp.array([[1, 1, 0, 1, 1], [1, 1, 1, 1, 1]], float)
  TABLE = jnp.array([[0, 0], [4, 6], [1, 0]], float)

  def _context(self, logits, batch, mask):
    return base.LossContext(
        params={}, memory={'replay_logits': self.TABLE}, logits=logits,
        batch=batch, task=None, mask=mask, forward=None)

  def _losses(self, **changes):
    found = _per_device(
        lambda *parts: replay.dark_losses(self._context(*parts)),
        self.LOGITS, {**self.BATCH, **changes}, self.MASK)
    return {name: float(jnp.mean(value)) for name, value in found.items()}

  def test_by_hand(self):
    # (1 + 4) / 2, padding, 4 / 2 and 0, over three images.
    # The labelled ones: log 2 and log (1 + 3).
    assert self._losses() == pytest.approx({
        'dark': (2.5 + 2 + 0) / 3, 'replayed': 1.5 * np.log(2)})

  def test_nothing_to_compare_is_nothing(self):
    found = self._losses(dark=jnp.zeros((2, 5)), replayed=jnp.zeros((2, 5)))
    assert found == {'dark': 0, 'replayed': 0}

  def test_labels_among_the_classes_of_their_own_task(self):
    mask = jnp.array([[[True, True]] * 5] * 2).at[:, 3].set(
        jnp.array([[False, True], [True, False]]))
    found = self._losses(class_mask=mask)
    assert found == pytest.approx({'dark': 1.5, 'replayed': 0})

  def test_new_images_leave_their_logits_in_the_slots_they_enter(self):
    batch = {'slot': jnp.array([[2, 3, 0], [3, 0, 1]]),  # 3: nowhere
             'replayed': jnp.array([[0, 0, 1], [0, 0, 1]], float)}
    logits = jnp.arange(12.).reshape(2, 3, 2)
    tables = _per_device(
        lambda *parts: replay.written(self.TABLE, *parts), logits, batch)
    expected = [[8, 9], [4, 6], [0, 1]]
    np.testing.assert_array_equal(tables, [expected, expected])


def _der(**changes):
  return fakes.config(**{
      'method': 'none', 'vit_classifier': 'token', 'replay.capacity': 4,
      'replay.policy': 'reservoir', 'replay.dark_weight': 0.3,
      'replay.label_weight': 0.7, **changes})


def _one_step(config, batch):
  """(loss, memory, logits of the images) of the real step on one device."""
  model, method, _, frozen, state = fakes.start(config)
  method = replay.wrap(method, config, fakes.NUM_CLASSES)
  table = np.random.default_rng(5).normal(size=(4, fakes.NUM_CLASSES))
  state = state.replace(memory={
      **method.memory(state.params), 'replay_logits': np.float32(table)})
  gradients = parallel.pmap(
      steps.make_gradients(config, model, method), in_axes=(0, 0, 0, None),
      devices=ONE)
  found = parallel.unreplicate(gradients(
      *parallel.replicate((state, frozen), ONE), parallel.shard(batch, ONE),
      fakes.task_info(classes=(2, 3))))
  whole = state_lib.overlay(frozen, state.params)
  logits = jax.jit(lambda params, images: model.apply(
      state_lib.variables(params), images, base.Query(), 0, train=True).logits)(
          whole, batch['image'])
  return found[0], found[3], np.float64(logits), table


def _cross_entropy(logits, labels):
  shifted = logits - logits.max(-1, keepdims=True)
  log_sum = np.log(np.exp(shifted).sum(-1))
  return log_sum - shifted[np.arange(len(labels)), labels]


def test_der_plus_plus_is_the_sum_of_its_three_means():
  """CE(new, masked) + alpha MSE + beta CE(replayed), and logits are kept."""
  batch = fakes.batch(7)
  batch |= {'label': np.array([2, 3, 2, 0, 5, 0, 4], np.int32),
            'replayed': np.float32([0, 0, 0, 1, 1, 1, 1]),
            'weight': np.float32([1, 1, 1, 0, 0, 0, 0]),
            'dark': np.float32([0, 0, 0, 1, 1, 0, 0]),
            'slot': np.array([4, 3, 0, 1, 2, 2, 0], np.int32)}
  loss, memory, logits, table = _one_step(_der(), batch)
  expected = (
      np.mean(_cross_entropy(logits[:3, 2:4], batch['label'][:3] - 2))
      + 0.3 * np.mean((logits[3:5] - table[1:3])**2)
      + 0.7 * np.mean(_cross_entropy(logits[5:], batch['label'][5:])))
  assert loss == pytest.approx(expected, rel=1e-5)
  np.testing.assert_allclose(
      memory['replay_logits'], [logits[2], table[1], table[2], logits[1]],
      rtol=1e-4, atol=1e-5)


def _replay_loss(config, logits, batch):
  """The step's cross-entropy of one device in task 1, classes 2 and 3."""
  def loss(logits, batch):
    mask = losses.class_mask(config, batch, fakes.task_info(1, classes=(2, 3)))
    return losses.mean_loss(losses.masked(logits, mask), batch)

  return float(_per_device(loss, logits[None], jax.tree.map(
      lambda x: x[None], batch))[0])


def test_experience_replay_is_one_mean_masked_for_new_images_only():
  logits = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
  batch = {'label': np.array([2, 3, 0, 5], np.int32),
           'replayed': np.float32([0, 0, 1, 1]),
           'weight': np.float32([1, 1, .5, .5])}
  expected = [*_cross_entropy(logits[:2, 2:4], [0, 1]),
              *(.5 * _cross_entropy(logits[2:], [0, 5]))]
  assert _replay_loss(fakes.config(), logits, batch) == pytest.approx(
      sum(expected) / 3, rel=1e-5)


def test_masked_replay_sees_the_classes_of_its_own_task():
  logits = np.random.default_rng(0).normal(size=(2, 6)).astype(np.float32)
  batch = {'label': np.array([2, 5], np.int32),
           'replayed': np.float32([0, 1]), 'weight': np.float32([1, 1]),
           'class_mask': np.arange(6) // 2 == np.array([[1], [2]])}
  expected = np.mean([*_cross_entropy(logits[:1, 2:4], [0]),
                      *_cross_entropy(logits[1:, 4:], [1])])
  config = fakes.config(**{'replay.masked': True})
  assert _replay_loss(config, logits, batch) == pytest.approx(
      expected, rel=1e-5)


def test_without_replay_a_method_stays_the_object_it_is():
  config = fakes.config()
  method = fakes.tiny_model(config)[1]
  assert replay.wrap(method, config, fakes.NUM_CLASSES) is method


def test_a_store_without_room_for_each_class_is_refused():
  config = fakes.config(**{'replay.capacity': 5})
  with pytest.raises(ValueError, match='no room for each of the 6 classes'):
    program_lib.create(config, fakes.NUM_CLASSES)


@pytest.mark.parametrize('changes, words', [
    ({'replay.dark_weight': .5}, 'dark_weight 0.5 needs a store'),
    ({'replay.review_epochs': 2}, 'review_epochs 2 needs a store'),
    ({'replay.capacity': 10, 'replay.dark_weight': .5}, 'policy reservoir')])
def test_refused_at_start(changes, words):
  with pytest.raises(ValueError, match=words):
    startup.check(fakes.config(**changes))
