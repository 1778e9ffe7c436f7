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
"""Whole small runs with replay: exact after a stop, alike on all devices."""

import jax
import numpy as np
import pytest

import input_pipeline
from tests import fakes
from train_lib import checkpoint
from train_lib import parallel
from train_lib import program as program_lib
from train_lib import replay
from train_lib import steps
from train_lib import train

DER = {'replay.capacity': 14, 'replay.policy': 'reservoir',
       'replay.dark_weight': 0.3, 'replay.label_weight': 0.7}
CALM = {'optim': 'sgd', 'learning_rate': 2.0, 'num_epochs': 1,
        'method': 'none', 'vit_classifier': 'token'}


class Stopped(Exception):
  """The run was killed."""


def _run(config, workdir):
  workdir.mkdir(exist_ok=True)
  program, stream = train.prepare(config)
  return train.train_and_evaluate(program, stream, str(workdir))


def _newest(config, workdir):
  """(task, state, recorded arrays) of the newest checkpoint."""
  saved = checkpoint.Checkpointer(workdir / 'checkpoints')
  try:
    return saved.restore_latest(train.prepare(config)[0].start()[1])
  finally:
    saved.close()


@pytest.fixture(name='der_with_review', scope='module')
def _der_with_review(tmp_path_factory):
  """(config, newest checkpoint, results): DER++ and a review in one run."""
  folder = tmp_path_factory.mktemp('der')
  config = fakes.config(folder, num_epochs=1, eval_last_only=True, **{
      **DER, 'replay.batch_size': 2, 'replay.review_epochs': 2})
  results = _run(config, folder / 'run')
  return config, _newest(config, folder / 'run'), results


def test_new_replayed_and_reviewed_images_share_one_compiled_step(
    der_with_review):
  """`parallel.pmap` raises if it has to trace again."""
  _, (task, state, arrays), results = der_with_review
  assert task == 2 and results.finished
  # 40 images and a global batch of 8: 5 steps.  8 rows a device and step make
  # one step of a review of 14.
  assert state.step == 3 * (5 + 2)
  assert np.all(np.any(state.memory['replay_logits'] != 0, axis=1))
  assert arrays['replay:rows'].shape == (14,)
  assert arrays['replay:shapes'].tolist() == [[10, 10, 3]] * 14
  assert arrays['replay:seen'] == 3 * 40


def test_stop_and_resume_equal_the_unbroken_run(
    der_with_review, tmp_path, monkeypatch):
  config, expected, unbroken = der_with_review
  save = checkpoint.Checkpointer.save

  def save_and_die(self, *args):
    save(self, *args)
    self.close()
    raise Stopped

  with monkeypatch.context() as patch:
    patch.setattr(checkpoint.Checkpointer, 'save', save_and_die)
    with pytest.raises(Stopped):
      _run(config, tmp_path)
  resumed = _run(config, tmp_path)
  np.testing.assert_array_equal(resumed.loss, unbroken.loss)
  found = _newest(config, tmp_path)
  jax.tree.map(np.testing.assert_array_equal, found[1], expected[1])
  for key in (key for key in expected[2] if key.startswith('replay:')):
    np.testing.assert_array_equal(found[2][key], expected[2][key], key)


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
