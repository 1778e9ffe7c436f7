# SPDX-License-Identifier: Apache-2.0
"""What a run tells of the terms of its loss."""

import types

import jax
import jax.numpy as jnp
import pytest

from promptcl.train_lib.records import run_log
from promptcl.train_lib.steps import train_metrics
from tests.helpers import fakes

PHASE = types.SimpleNamespace(name='train', schedule=types.SimpleNamespace(
    steps_per_epoch=2, num_epochs=1))


def _metrics(loss, pull):
  """Of a step on one device, as the devices return it."""
  step = jax.vmap(lambda loss, pull: (
      train_metrics.TrainMetrics.gather_from_model_output(
          axis_name='batch', logits=jnp.zeros((1, 2)),
          labels=jnp.zeros(1, int), loss=loss, learning_rate=loss,
          l2_grads=loss, losses={'pull': pull, 'ewc': None})),
                  axis_name='batch')
  return step(jnp.float32([loss]), jnp.float32([pull]))


def _log(folder, told):
  """A log that tells `told` instead of the disk and the screen."""
  log = run_log.RunLog(str(folder), fakes.config(), num_tasks=1, num_steps=2,
                       first_step=1, batch_size=1, loss_names=('ewc', 'pull'))
  log._writer = types.SimpleNamespace(
      write_scalars=lambda step, values: told.update(values))
  log._bar.set_postfix = lambda values, refresh: told.update(line=values)
  return log


@pytest.mark.parametrize('interrupted', [False, True])
def test_terms_of_the_loss_are_told_beside_it(tmp_path, interrupted):
  """Means over steps, also where a checkpoint lies between them."""
  told = {}
  log = _log(tmp_path, told)
  log.train_step(_metrics(2.0, 0.5), task=0, phase=PHASE, step=1)
  if interrupted:
    saved = log.arrays(1)
    log = _log(tmp_path, told)
    log.restore(saved)
  log.train_step(_metrics(4.0, 1.5), task=0, phase=PHASE, step=2)
  log.flush_train(2, task=0)
  assert (told['loss'], told['loss/pull']) == (3.0, 1.0)
  assert told['line'] == {'loss': '3.000', 'pull': '1.000'}
  assert 'loss/ewc' not in told
