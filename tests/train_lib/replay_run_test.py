# SPDX-License-Identifier: Apache-2.0
"""Replay in real steps: alike on all devices, and what it keeps from going."""

import jax
import numpy as np
import pytest

from promptcl import input_pipeline
from promptcl.train_lib import program as program_lib
from promptcl.train_lib import train
from promptcl.train_lib.around import replay
from promptcl.train_lib.core import parallel
from promptcl.train_lib.steps import train_step as steps
from tests.helpers import fakes

pytestmark = pytest.mark.slow

DER = {'replay.capacity': 14, 'replay.policy': 'reservoir',
       'replay.dark_weight': 0.3, 'replay.label_weight': 0.7}
CALM = {'optim': 'sgd', 'learning_rate': 2.0, 'num_epochs': 1,
        'method': 'none', 'vit_classifier': 'token'}


def _run(config, workdir):
  workdir.mkdir(exist_ok=True)
  program, stream = train.prepare(config)
  return train.train_and_evaluate(program, stream, str(workdir))


def _learn(config, devices):
  """State after two tasks of a global batch of 8 on some devices."""
  program = program_lib.create(config, fakes.NUM_CLASSES)
  stream = replay.wrap_stream(
      config, input_pipeline.build(config, global_batch_size=8))
  frozen, state = parallel.replicate(program.start(), devices)
  step = parallel.pmap(
      steps.make_train_step(config, program.model, program.method,
                            program.optimizer, global_batch_size=8),
      in_axes=(0, 0, 0, None), devices=devices)
  for task in stream.tasks[:2]:
    info = steps.TaskInfo.create(
        task.index, task.class_mask, first_step=5 * task.index,
        steps_per_epoch=5)
    for batch in parallel.prefetch(stream.batches(task), devices):
      state, _ = step(state, frozen, batch, info)
    stream.end_task(task)
  return parallel.unreplicate(state)


def test_one_device_and_two_learn_the_same(tmp_path):
  options = {**CALM, **DER, 'dataset': fakes.write_data(tmp_path / 'data.npz')}
  states = [
      _learn(fakes.config(per_device_batch_size=8 // n, **{
          **options, 'replay.batch_size': 4 // n}), jax.devices()[:n])
      for n in (1, 2)]
  assert np.ptp(states[0].memory['replay_logits']) > 1
  for name in ('params', 'memory'):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5),
                 *(getattr(state, name) for state in states))


def test_replay_keeps_what_training_alone_forgets(tmp_path):
  """A linear head trained task after task, all classes in the loss."""
  config = fakes.config(tmp_path, method='none', vit_classifier='token',
                        num_epochs=4, eval_last_only=True, **{
                            'continual.train_mask': False,
                            'replay.batch_size': 0})
  alone = _run(config, tmp_path / 'alone').accuracies()[2]
  er = fakes.changed(config, **{'replay.capacity': 18})
  kept = _run(er, tmp_path / 'er').accuracies()[2]
  assert alone[0] < 0.3 and alone[2] > 0.9
  assert kept[:2].mean() > alone[:2].mean() + 0.4
