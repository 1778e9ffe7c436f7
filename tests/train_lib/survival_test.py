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
"""Whole small runs that are stopped, killed, moved, or cannot save."""

import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from tests import fakes
from tests import killing
from tests.torture import comparison
from train_lib import checkpoint
from train_lib import evaluate
from train_lib import interrupt
from train_lib import run_log
from train_lib import train
from train_lib import workdir as workdir_lib
from train_lib.place import TRAINED
from train_lib.place import TRAINING

# 5 steps a task; evaluation after steps 2 and 4 of it and at its end.
CONFIG = {'num_epochs': 1, 'eval_per_epochs': 0, 'eval_every_steps': 2,
          'checkpoint_every_steps': 3}
DER = {'replay.capacity': 14, 'replay.policy': 'reservoir',
       'replay.dark_weight': 0.3, 'replay.label_weight': 0.7,
       'replay.batch_size': 1, 'replay.review_epochs': 2}


def _run(config, workdir):
  workdir.mkdir(exist_ok=True)
  program, stream = train.prepare(config)
  return train.train_and_evaluate(program, stream, str(workdir))


@pytest.fixture(name='unbroken', scope='module')
def _unbroken(tmp_path_factory):
  """(config, workdir)."""
  folder = tmp_path_factory.mktemp('unbroken')
  config = fakes.config(folder, **CONFIG)
  _run(config, folder / 'run')
  return config, folder / 'run'


def test_a_killed_run_goes_on_at_the_very_next_step(
    unbroken, tmp_path, monkeypatch):
  config, expected = unbroken
  killing.kill_at_call(monkeypatch, run_log.RunLog, 'train_step', 9,
                       lambda: _run(config, tmp_path))
  place = killing.place(tmp_path)
  assert (place.task, place.steps, place.stage) == (1, 1, TRAINING)
  steps = killing.record_calls(monkeypatch, run_log.RunLog, 'train_step')
  begun = killing.record_calls(monkeypatch, train, 'begin_task')
  _run(config, tmp_path)
  assert (len(steps), len(begun)) == (15 - 6, 1)
  assert comparison.difference(expected, tmp_path) == ''


def test_a_run_killed_before_its_first_checkpoint_leaves_no_events(
    unbroken, tmp_path, monkeypatch):
  config, _ = unbroken
  run = lambda: _run(config, tmp_path)
  killing.kill_at_call(monkeypatch, run_log.RunLog, 'train_step', 3, run)
  assert comparison.events(tmp_path)
  killing.kill_at_call(monkeypatch, checkpoint.Checkpointer, 'save', 1, run)
  found = comparison.events(tmp_path)
  assert len(found) == len(set(found)) and max(found)[0] == 2


def test_events_of_others_are_left_alone(tmp_path, unbroken, monkeypatch):
  config, _ = unbroken
  other = tmp_path / 'events.out.tfevents.1.other'
  other.write_bytes(b'x')
  killing.kill_at_call(monkeypatch, run_log.RunLog, 'train_step', 1,
                       lambda: _run(config, tmp_path))
  assert other.exists()


def test_replay_goes_on_in_the_middle_of_a_review(tmp_path, monkeypatch):
  config = fakes.config(tmp_path, **{**CONFIG, **DER})
  _run(config, tmp_path / 'unbroken')
  # A step takes 8 * 3 rows, so a review is 2 of them, and a task 7.
  for call, steps in ((4, 3), (4, 6)):
    killing.kill_at_call(monkeypatch, run_log.RunLog, 'train_step', call,
                         lambda: _run(config, tmp_path / 'killed'))
    assert killing.place(tmp_path / 'killed').steps == steps
  _run(config, tmp_path / 'killed')
  assert comparison.difference(
      tmp_path / 'unbroken', tmp_path / 'killed') == ''


def test_a_signal_anywhere_saves_and_the_run_goes_on(
    unbroken, tmp_path, monkeypatch):
  config, expected = unbroken
  rare = fakes.changed(config, checkpoint_every_steps=0)
  stop = lambda: os.kill(os.getpid(), signal.SIGTERM)
  before = signal.getsignal(signal.SIGTERM)
  for owner, name, call, where in (
      (run_log.RunLog, 'train_step', 1, (0, 1, TRAINING)),
      (evaluate.Evaluator, '_score', 1, (0, 2, TRAINING)),
      (train, 'end_task', 1, (0, 5, TRAINED)),
      # Sets at steps 2 and 4 and at the end of task 1: this is the last one.
      (evaluate.Evaluator, '_score', 1 + 2 + 2 + 2, (1, 5, TRAINED)),
      (train, 'begin_task', 1, (2, 1, TRAINING))):
    with monkeypatch.context() as patch:
      killing.act_at_call(patch, owner, name, call, stop)
      with pytest.raises(interrupt.Stopped, match='SIGTERM.*goes on'):
        _run(rare, tmp_path)
    place = killing.place(tmp_path)
    assert (place.task, place.steps, place.stage) == where
  assert signal.getsignal(signal.SIGTERM) is before
  _run(config, tmp_path)
  assert comparison.difference(expected, tmp_path) == ''


def test_a_second_ctrl_c_stops_at_once():
  script = textwrap.dedent("""
      import os, signal
      from train_lib import interrupt
      with interrupt.Interrupt() as noted:
        os.kill(os.getpid(), signal.SIGINT)
        print('on', noted.requested, flush=True)
        os.kill(os.getpid(), signal.SIGINT)
        print('never')
      """)
  done = subprocess.run([sys.executable, '-c', script], check=False, text=True,
                        capture_output=True)
  assert (done.returncode, done.stdout) == (-signal.SIGINT, 'on SIGINT\n')
  assert 'SIGINT: saving' in done.stderr


def test_one_device_and_eight_continue_each_other(tmp_path, monkeypatch):
  """Equal but for rounding, as nothing depends on a device's batch."""
  config = fakes.config(tmp_path, **CONFIG, **{
      'prompt_pool_param.batchwise_prompt': False, 'optim': 'sgd'})
  expected = _run(config, tmp_path / 'unbroken')
  script = textwrap.dedent(f"""
      import jax
      from tests import fakes
      from tests.train_lib import survival_test
      from train_lib import run_log
      assert jax.device_count() == 1
      config = fakes.config(per_device_batch_size=8, **{dict(
          CONFIG, dataset=config.dataset, optim='sgd',
          init_checkpoint=config.init_checkpoint)!r}, **{{
              'prompt_pool_param.batchwise_prompt': False}})
      survival_test.stop_at_step(config, {str(tmp_path / 'moved')!r}, 4)
      """)
  stop_at_step(config, tmp_path / 'moved', 3)
  subprocess.run([sys.executable, '-c', script], check=True,
                 env={**os.environ, 'XLA_FLAGS': ''})
  place = killing.place(tmp_path / 'moved')
  assert (place.task, place.steps) == (1, 2)
  moved = _run(config, tmp_path / 'moved')
  np.testing.assert_allclose(moved.loss, expected.loss, rtol=1e-4)
  for name in ('per_sample', 'per_sample_task_inc'):
    np.testing.assert_allclose(
        moved.correct[name], expected.correct[name], atol=1)


def stop_at_step(config, workdir, number):
  """Runs up to a step, counted from the start of this process."""
  stop = lambda: os.kill(os.getpid(), signal.SIGTERM)
  with pytest.MonkeyPatch.context() as patch:
    killing.act_at_call(patch, run_log.RunLog, 'train_step', number, stop)
    with pytest.raises(interrupt.Stopped):
      _run(config, pathlib.Path(workdir))


def test_another_number_of_images_per_step_is_refused(unbroken, tmp_path):
  config, _ = unbroken
  stop_at_step(config, tmp_path, 1)
  with pytest.raises(ValueError, match='8 images per step.* 16 on 8 device'):
    _run(fakes.changed(config, per_device_batch_size=2), tmp_path)


def test_a_state_that_is_not_finite_is_never_saved(unbroken, tmp_path):
  config, _ = unbroken
  wild = fakes.changed(config, learning_rate=1e38, grad_clip_max_norm=0.0,
                       checkpoint_every_steps=1, reinit_optimizer=True)
  with pytest.raises(FloatingPointError) as raised:
    _run(wild, tmp_path)
  for word in ('not finite at step', 'task 0', 'debug_nans'):
    assert word in str(raised.value)
  saved = killing.place(tmp_path)
  if saved:  # all that was saved has parameters that are numbers
    with workdir_lib.open_checkpoints(str(tmp_path)) as checkpoints:
      state = checkpoints.restore_latest(train.prepare(wild)[0].start()[1])[1]
    assert all(np.isfinite(x).all() for x in state.params.values())
