# SPDX-License-Identifier: Apache-2.0
"""Keeps a run: knows where it is and saves it so that it goes on exactly.

  keeper = Keeper(config, stream, results, log, checkpoints, interrupt, place)
  keeper.begin(task)
  ...
  keeper.step_done(state)         # saves when due, stops when asked to
"""

import dataclasses
import time
from typing import Any

import numpy as np

from promptcl.train_lib.core import hosts
from promptcl.train_lib.core import parallel
from promptcl.train_lib.records import run_log
from promptcl.train_lib.resume import cadence
from promptcl.train_lib.resume import checkpoint
from promptcl.train_lib.resume import interrupt as interrupt_lib
from promptcl.train_lib.resume.place import DONE
from promptcl.train_lib.resume.place import Place
from promptcl.train_lib.resume.place import TRAINED
from promptcl.train_lib.resume.place import TRAINING

_MOST_ROWS = 128  # that a message lists


class Keeper:
  """Saves a run now and then, and when it is asked to stop.

  Attributes:
    place: where the run is.
    step: optimizer steps made so far in the whole run.
  """

  def __init__(self, config: Any, stream: Any, results: Any,
               log: run_log.RunLog, checkpoints: checkpoint.Checkpointer,
               interrupt: interrupt_lib.Interrupt, *, place: Place, step: int):
    """Continues at `place`, which is saved already."""
    self.place, self.step = place, step
    self._config, self._stream, self._results = config, stream, results
    self._log, self._checkpoints = log, checkpoints
    self._interrupt = interrupt
    self._saved = _key(place)
    self._started = time.time()
    self._phase, self._first = None, 0

  def begin(self, task: Any) -> bool:
    """Starts the clock of a task; whether its first step is still to come."""
    self._started = time.time() - self.place.seconds
    if self.place.task == task.index and self.place.stage != DONE:
      return False
    self._started = time.time()
    self.place = dataclasses.replace(
        self.place, task=task.index, steps=0, stage=TRAINING)
    return True

  def enter(self, phase: Any, first: int) -> bool:
    """Notes the phase at work; whether its first step is still to come.

    Args:
      phase: of the task.
      first: steps that the task makes before it.
    """
    self._phase, self._first = phase, first
    return self.place.steps <= first

  def count_step(self) -> None:
    """One more optimizer step was made."""
    self.step += 1
    self.place = dataclasses.replace(self.place, steps=self.place.steps + 1)

  def flush_log(self) -> None:
    """Writes training metrics; stops a run whose loss is no longer a number."""
    values = self._log.flush_train(self.step, task=self.place.task)
    if not np.isfinite(values['loss']):
      self._complain(f'loss is {values["loss"]}', self._log.bad_step)

  def step_done(self, state: Any) -> None:
    """Saves if it is due; state replicated, as in all that follow.

    Raises:
      interrupt.Stopped: after a signal; the run is saved.
    """
    if cadence.save_due(self._config, self.step):
      self.save(state)
    self.stop_if_asked(state)

  def trained(self, state: Any) -> None:
    """All of a task but its scores is done."""
    self.place = dataclasses.replace(
        self.place, stage=TRAINED, seconds=time.time() - self._started)
    self.stop_if_asked(state)

  def done(self, state: Any, task: Any) -> bool:
    """A task is scored and recorded; returns whether that was saved."""
    self.place = dataclasses.replace(self.place, stage=DONE)
    due = cadence.saved_after(self._stream, task)
    if due:
      self.save(state)
    return due

  def pace(self, steps_on_images: int) -> dict[str, float]:
    """What `Results.record` keeps of the speed of a task's training."""
    images = steps_on_images * self._stream.global_batch_size
    return {'seconds': self.place.seconds,
            'images_per_second': images / max(self.place.seconds, 1e-9)}

  def stop_if_asked(self, state: Any) -> None:
    """Saves and raises `Stopped` after a signal."""
    if self._interrupt.asked():
      self.save(state)
      self._checkpoints.wait()
      self._interrupt.check(f' {self.place}')

  def save(self, state: Any) -> None:
    """Starts to save; a place that is saved already is not saved again.

    Raises:
      FloatingPointError: the state is not worth it.
      ValueError: hosts do not have the same.
      OSError: this save, or the one before, failed.
    """
    if _key(self.place) == self._saved:
      return
    log = self._log.arrays(self.step)
    if self._log.bad_step is not None:
      self._complain('loss is not finite', self._log.bad_step)
    state = parallel.unreplicate(state)
    for path, leaf in state.params.items():
      if not np.all(np.isfinite(np.asarray(leaf, np.float32))):
        self._complain(f'parameter {path} is not finite', self.step)
    hosts.check_agreement(f'state at step {self.step}', state)
    if self.place.stage == TRAINING:
      self.place = dataclasses.replace(
          self.place, seconds=time.time() - self._started)
    # Events first: whatever a checkpoint says is there, is there.
    place = dataclasses.replace(
        self.place, rows_per_step=self._stream.rows_per_step,
        events=self._log.flush())
    self._checkpoints.save(place, state, {
        **self._results.arrays(), **self._stream.arrays(), **log})
    self._saved = _key(self.place)

  def _complain(self, what: str, step: int) -> None:
    """Gives up after a step of the task at work, counted over the run."""
    self._checkpoints.wait()
    last = self._checkpoints.latest
    # Of the phase, from 1.
    number = step - (self.step - self.place.steps) - self._first
    raise FloatingPointError(
        f'{what} at step {step}, task {self.place.task}, '
        f'{batch_name(self._stream, self.place.task, self._phase, number)}; '
        'the last good '
        f'checkpoint is {"none" if last is None else f"that {last}"}; the same '
        'command with --debug_nans goes on there and names the operation, '
        'another workdir may have a lower config.learning_rate')


def batch_name(stream: Any, task_index: int, phase: Any, number: int) -> str:
  """What a step was made of, for people.

  Args:
    stream: of the run.
    task_index: of the step's task.
    phase: at work.
    number: of the step within the phase, from 1.

  Returns:
    Epoch and batch in the epoch; rows of the training split as well if it is
    the phase that trains on them.
  """
  epoch, batch = divmod(number - 1, phase.schedule.steps_per_epoch)
  text = (f'epoch {epoch + 1}, batch {batch + 1} of '
          f'{phase.schedule.steps_per_epoch}')
  if phase.name != 'train':
    return f'{text} of phase {phase.name}'
  task, size = stream.tasks[task_index], stream.global_batch_size
  rows = stream.train_rows(task)[(number - 1) * size:number * size].tolist()
  more = f' and {len(rows) - _MOST_ROWS} more' * (len(rows) > _MOST_ROWS)
  return (f'{text}, training images '
          f'{", ".join(map(str, rows[:_MOST_ROWS]))}{more}')


def _key(place: Place) -> tuple[int, int, str]:
  return place.task, place.steps, place.stage
