# SPDX-License-Identifier: Apache-2.0
"""Metrics of training, merged over devices and steps."""

import jax
import jax.numpy as jnp
import pytest

from promptcl.train_lib.steps import train_metrics


@pytest.mark.parametrize('transform', ['vmap', 'pmap'])
def test_train_metrics_over_two_devices_and_two_steps(transform):
  if transform == 'pmap' and jax.local_device_count() < 2:
    pytest.skip('one device only')

  def step(logits, labels, loss, rate, norm):
    return train_metrics.TrainMetrics.gather_from_model_output(
        axis_name='batch', logits=logits, labels=labels, loss=loss,
        learning_rate=rate, l2_grads=norm)

  step = (jax.vmap(step, axis_name='batch') if transform == 'vmap' else
          jax.pmap(step, axis_name='batch', devices=jax.local_devices()[:2]))
  ninf = -jnp.inf
  logits = jnp.array([[[ninf, 1., 2.], [ninf, 3., 2.]],
                      [[ninf, 1., 2.], [ninf, 3., 2.]]])
  labels = jnp.array([[2, 1], [1, 1]], jnp.int32)  # three of four are right
  first = step(logits, labels, jnp.array([1., 3.]), jnp.array([.5, .5]),
               jnp.array([2., 2.])).unreplicate()
  assert _floats(first.compute()) == pytest.approx({
      'train_accuracy': .75, 'loss': 2., 'loss_std': 1., 'learning_rate': .5,
      'l2_grads': 2.})
  second = step(logits, 0 * labels, jnp.array([5., 7.]), jnp.array([.25, .25]),
                jnp.array([4., 4.])).unreplicate()
  assert _floats(first.merge(second).compute()) == pytest.approx({
      'train_accuracy': .375, 'loss': 4., 'loss_std': 5 ** .5,
      'learning_rate': .25, 'l2_grads': 3.})


def test_terms_by_name_over_the_steps_that_have_them():
  """The second step has no `ewc`, and nobody ever has `dark`."""
  def step(loss, pull, ewc=None):
    return train_metrics.TrainMetrics.gather_from_model_output(
        axis_name='batch', logits=jnp.zeros((1, 2)), labels=jnp.zeros(1, int),
        loss=loss, learning_rate=loss, l2_grads=loss,
        losses={'pull': pull, 'ewc': ewc, 'dark': None})

  step = jax.vmap(step, axis_name='batch')
  pair = lambda *values: jnp.array(values)
  first = step(pair(1., 1.), pair(1., 3.), pair(5., 7.)).unreplicate()
  second = step(pair(1., 1.), pair(5., 7.)).unreplicate()
  found = _floats(first.merge(second).compute())
  assert {k: v for k, v in found.items() if '/' in k} == {
      'loss/pull': 4., 'loss/ewc': 6.}
  none = train_metrics.TrainMetrics.none_yet(('pull', 'ewc', 'dark'))
  assert jax.tree.structure(none) == jax.tree.structure(first)
  assert _floats(none.merge(first).compute()) == _floats(first.compute())


def _floats(values):
  return {k: float(v) for k, v in values.items()}
