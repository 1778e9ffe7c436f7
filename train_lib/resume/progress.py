# SPDX-License-Identifier: Apache-2.0
"""How far a run is, and when that is saved, so that it goes on exactly.

  progress = Progress(config, stream, results, log, checkpoints, interrupt,
                      point=point, step=int(state.step))
  progress.begin_task(task)
  ...
  progress.count_step()
  progress.after_step(state)        # saves when due, stops when asked to
"""

import dataclasses
import time
from typing import TYPE_CHECKING

from ml_collections import ConfigDict
import numpy as np

from promptcl.input_pipeline.streams.task_stream import Task
from promptcl.models.parts import base
from promptcl.train_lib.core import hosts
from promptcl.train_lib.core import parallel
from promptcl.train_lib.core.state import TrainState
from promptcl.train_lib.records import run_log
from promptcl.train_lib.records.results import Results
from promptcl.train_lib.resume import checkpoint
from promptcl.train_lib.resume import interrupt as interrupt_lib
from promptcl.train_lib.resume.checkpoint import DONE
from promptcl.train_lib.resume.checkpoint import ResumePoint
from promptcl.train_lib.resume.checkpoint import TRAINED
from promptcl.train_lib.resume.checkpoint import TRAINING

if TYPE_CHECKING:
  from promptcl.input_pipeline.replay import ReplayStream

_MOST_ROWS = 128  # that a message lists


class Progress:
  """Saves a run now and then, and when it is asked to stop.

  Attributes:
    point: where the run is; `point.steps` is all that counts on the host.
    phase_start: optimizer steps of the run before the phase at work.
  """

  def __init__(self, config: ConfigDict, stream: 'ReplayStream',
               results: Results, log: run_log.RunLog,
               checkpoints: checkpoint.Checkpointer,
               interrupt: interrupt_lib.Interrupt, *, point: ResumePoint,
               step: int):
    """Continues at `point`, which is saved already."""
    self.point, self._task_start = point, step - point.steps
    self._config, self._stream, self._results = config, stream, results
    self._log, self._checkpoints = log, checkpoints
    self._interrupt = interrupt
    self._saved = _key(point)
    self._started = time.time()
    self._phase: base.Phase | None = None
    self.phase_start = self._phase_end = self._task_start

  @property
  def step(self) -> int:
    """Optimizer steps made so far in the whole run: `state.step`."""
    return self._task_start + self.point.steps

  def begin_task(self, task: Task) -> bool:
    """Starts the clock of a task; whether its first step is still to come."""
    self._started = time.time() - self.point.seconds
    if self.point.task == task.index and self.point.stage != DONE:
      return False
    self._started = time.time()
    self._task_start = self._phase_end = self.step
    self.point = dataclasses.replace(
        self.point, task=task.index, steps=0, stage=TRAINING)
    return True

  def begin_phase(self, phase: base.Phase) -> bool:
    """Notes the next phase; whether its first step is still to come."""
    self._phase, self.phase_start = phase, self._phase_end
    self._phase_end += phase.schedule.num_steps
    return self.step <= self.phase_start

  def count_step(self) -> None:
    """One more optimizer step was made."""
    self.point = dataclasses.replace(self.point, steps=self.point.steps + 1)

  def flush_log(self) -> None:
    """Writes training metrics; stops a run whose loss is no longer a number."""
    values = self._log.flush_train(self.step, task=self.point.task)
    if not np.isfinite(values['loss']):
      self._complain(f'loss is {values["loss"]}', self._log.bad_step)

  def after_step(self, state: TrainState) -> None:
    """Saves if it is due; state replicated, as in all that follow.

    Raises:
      interrupt.Stopped: after a signal; the run is saved.
    """
    if _due_after_step(self._config, self.step):
      self.save(state)
    self.stop_if_asked(state)

  def end_training(self, state: TrainState) -> None:
    """All of a task but its scores is done."""
    self.point = dataclasses.replace(
        self.point, stage=TRAINED, seconds=time.time() - self._started)
    self.stop_if_asked(state)

  def end_task(self, state: TrainState, task: Task) -> bool:
    """A task is scored and recorded; returns whether that was saved."""
    self.point = dataclasses.replace(self.point, stage=DONE)
    due = _due_after_task(self._stream, task)
    if due:
      self.save(state)
    return due

  def speed(self, steps_on_images: int) -> dict[str, float]:
    """What `Results.record` keeps of the speed of a task's training."""
    images = steps_on_images * self._stream.global_batch_size
    return {'seconds': self.point.seconds,
            'images_per_second': images / max(self.point.seconds, 1e-9)}

  def stop_if_asked(self, state: TrainState) -> None:
    """Saves and raises `Stopped` after a signal."""
    if self._interrupt.asked():
      self.save(state)
      self._checkpoints.wait()
      self._interrupt.check(f' {self.point}')

  def save(self, state: TrainState) -> None:
    """Starts to save; a point that is saved already is not saved again.

    Raises:
      FloatingPointError: the state is not worth it.
      ValueError: hosts do not have the same.
      OSError: this save, or the one before, failed.
    """
    if _key(self.point) == self._saved:
      return
    log = self._log.arrays(self.step)
    if self._log.bad_step is not None:
      self._complain('loss is not finite', self._log.bad_step)
    state = parallel.unreplicate(state)
    for path, leaf in state.params.items():
      if not np.all(np.isfinite(np.asarray(leaf, np.float32))):
        self._complain(f'parameter {path} is not finite', self.step)
    hosts.check_agreement(f'state at step {self.step}', state)
    if self.point.stage == TRAINING:
      self.point = dataclasses.replace(
          self.point, seconds=time.time() - self._started)
    # Events first: whatever a checkpoint says is there, is there.
    point = dataclasses.replace(
        self.point, rows_per_step=self._stream.rows_per_step,
        events=self._log.flush())
    self._checkpoints.save(point, state, {
        **self._results.arrays(), **self._stream.arrays(), **log})
    self._saved = _key(self.point)

  def _complain(self, what: str, step: int) -> None:
    """Gives up after a step of the task at work, counted over the run."""
    self._checkpoints.wait()
    last = self._checkpoints.latest
    name = batch_name(self._stream, self.point.task, self._phase,
                      step - self.phase_start)
    raise FloatingPointError(
        f'{what} at step {step}, task {self.point.task + 1}, '
        f'{name}; the last good '
        f'checkpoint is {"none" if last is None else f"that {last}"}; the same '
        'command with --debug_nans goes on there and names the operation, '
        'another workdir may have a lower config.learning_rate')


def batch_name(stream: 'ReplayStream', task_index: int, phase: base.Phase,
               number: int) -> str:
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


def _due_after_task(stream: 'ReplayStream', task: Task) -> bool:
  """Whether a checkpoint is due: not after each of 200 short episodes."""
  return bool(task.eval_sets) or task.index == len(stream.tasks) - 1


def _due_after_step(config: ConfigDict, step: int) -> bool:
  """Whether to save after `step` of the whole run, as the original counts."""
  every = config.checkpoint_every_steps
  return every > 0 and step % every == 0


def _key(point: ResumePoint) -> tuple[int, int, str]:
  return point.task, point.steps, point.stage
