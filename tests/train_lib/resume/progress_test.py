# SPDX-License-Identifier: Apache-2.0
import dataclasses
import signal
import subprocess
import sys
import textwrap
import types

import numpy as np
import pytest

from promptcl.input_pipeline.streams import order
from promptcl.input_pipeline.views import examples
from promptcl.models.parts import base
from promptcl.train_lib import train
from promptcl.train_lib.resume import progress
from promptcl.train_lib.resume import workdir
from promptcl.train_lib.resume.checkpoint import DONE
from tests.helpers import fakes
from tests.helpers import killing
from tests.helpers import programs
from tests.torture import comparison

pytestmark = pytest.mark.slow


def _stream(num_images, *, batch, epochs):
  task = types.SimpleNamespace(num_examples=num_images)
  rows = np.arange(100, 1000)
  return types.SimpleNamespace(
      tasks=[None, task], global_batch_size=batch, train_rows=lambda _: rows,
      schedule=lambda task: order.schedule(
          task, num_epochs=epochs, global_batch_size=batch))


def test_a_step_is_named_by_epoch_batch_and_rows():
  stream = _stream(10, batch=4, epochs=3)  # 2 steps an epoch, 6 in all
  (phase,) = base.one_phase(stream, stream.tasks[1])
  assert progress.batch_name(stream, 1, phase, 1) == (
      'epoch 1, batch 1 of 2, training images 100, 101, 102, 103')
  assert progress.batch_name(stream, 1, phase, 6) == (
      'epoch 3, batch 2 of 2, training images 120, 121, 122, 123')
  phase = dataclasses.replace(phase, name='review')
  assert progress.batch_name(stream, 1, phase, 3) == (
      'epoch 2, batch 1 of 2 of phase review')


def test_a_large_batch_is_cut():
  stream = _stream(300, batch=130, epochs=1)
  (phase,) = base.one_phase(stream, stream.tasks[1])
  text = progress.batch_name(stream, 1, phase, 2)
  assert text.startswith('epoch 1, batch 2 of 2, training images 230, 231,')
  assert text.endswith(', 357 and 2 more')


def test_a_loss_that_is_not_finite_names_its_batch(
    tmp_path, monkeypatch):
  config = fakes.config(tmp_path, num_epochs=1, eval_per_epochs=0,
                        method='none', vit_classifier='token')
  task, bad_row = 1, 57  # 40 training images a task, stored in this order
  augment = examples.Examples.augment

  def spoilt(self, image, column, seed):
    spoil = np.nan if seed[3] == bad_row else 1
    return augment(self, image, column, seed) * np.float32(spoil)

  monkeypatch.setattr(examples.Examples, 'augment', spoilt)
  with pytest.raises(FloatingPointError) as raised:
    train.train_and_evaluate(*train.prepare(config), str(tmp_path))
  places = 40 + np.random.default_rng([config.seed, task, 0]).permutation(40)
  batch = int(np.flatnonzero(places == bad_row)[0]) // 8
  rows = ', '.join(map(str, places[8 * batch:8 * batch + 8]))
  message = str(raised.value)
  assert (f' at step {5 + batch + 1}, task 2, epoch 1, batch {batch + 1} of 5, '
          f'training images {rows}; the last good checkpoint is that after '
          'task 1; the same command with --debug_nans goes on there') in message
  with workdir.open_checkpoints(str(tmp_path)) as checkpoints:
    kept = checkpoints.latest
  assert (kept.task, kept.steps, kept.stage) == (0, 5, DONE)


@pytest.mark.parametrize('rate, what, saved', [
    (1e15, 'loss is not finite at step 3', 2),  # the penalty is its square
    (1e41, 'parameter head/.* is not finite at step 1', 0)])
def test_a_state_that_is_not_finite_is_never_saved(tmp_path, rate, what, saved):
  start = programs.Starts(fakes.config(
      tmp_path, method='none', vit_classifier='token', optim='sgd',
      learning_rate=rate, weight_decay=1.0, grad_clip_max_norm=0.0,
      checkpoint_every_steps=1))
  with pytest.raises(FloatingPointError, match=f'{what}, task 1.*debug_nans'):
    start(tmp_path / 'run')
  point = killing.resume_point(tmp_path / 'run')
  assert (point.steps if point else 0) == saved
  if saved:  # all that is there are numbers
    state = comparison.last_state(tmp_path / 'run')
    assert all(np.isfinite(x).all() for path, x in state.items()
               if path.startswith('params/'))


def test_a_second_ctrl_c_stops_at_once():
  script = textwrap.dedent("""
      import os, signal
      from promptcl.train_lib.resume import interrupt
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
