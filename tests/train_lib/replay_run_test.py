# Copyright 2026 The JAX Continual Prompting Authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Replay in real steps: alike on all devices, and what it keeps from going."""

import jax
import numpy as np
import pytest

import input_pipeline
from tests import fakes
from train_lib import parallel
from train_lib import program as program_lib
from train_lib import replay
from train_lib import steps
from train_lib import train

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
