# SPDX-License-Identifier: Apache-2.0
"""What all tasks of a run share: compiled steps, evaluator, log, progress."""

from collections.abc import Callable, Iterable, Mapping
import contextlib
import dataclasses
from typing import TYPE_CHECKING

import jax

from promptcl.input_pipeline.streams.task_stream import Task
from promptcl.models.parts import base
from promptcl.train_lib import evaluate
from promptcl.train_lib import probe as probe_lib
from promptcl.train_lib import program as program_lib
from promptcl.train_lib import zero_shot as zero_shot_lib
from promptcl.train_lib.core import parallel
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.records import run_log
from promptcl.train_lib.resume import progress as progress_lib
from promptcl.train_lib.steps import train_metrics
from promptcl.train_lib.steps import train_step as steps
from promptcl.train_lib.steps.train_step import Batch

if TYPE_CHECKING:
  from promptcl.input_pipeline.pipeline import TaskStream
  from promptcl.input_pipeline.replay import ReplayStream

TrainStep = Callable[
    ..., tuple[state_lib.TrainState, train_metrics.TrainMetrics]]


@dataclasses.dataclass(frozen=True)
class Run:
  """What all tasks of a run share.

  Attributes:
    program: from `prepare`.
    stream: from `prepare`, with a store.
    frozen: replicated.
    train_steps: of each kind of phase, compiled once.
    evaluator: scores evaluation sets.
    probe: what hooks may ask of the model; `probe.at(task)` is for a task.
    log: where metrics go.
    progress: knows where the run is and saves it.
    zero_shot: measures what is asked of it, or None.
  """

  program: program_lib.Program
  stream: 'ReplayStream'
  frozen: state_lib.FlatParams
  train_steps: Mapping[str, TrainStep]
  evaluator: evaluate.Evaluator
  probe: probe_lib.Probe
  log: run_log.RunLog
  progress: progress_lib.Progress
  zero_shot: zero_shot_lib.ZeroShot | None = None

  def batches(self, state: state_lib.TrainState, phase: base.Phase, task: Task,
              num_done: int) -> Iterable[Batch]:
    """Device batches of all steps of a phase but the `num_done` first.

    `state` is the replicated one before the first of them.
    """
    probe = self.probe.at(task, lambda: parallel.unreplicate(state))
    batches = phase.batches(num_done, probe)
    learning = self.program.method.learning.get(phase.kind, base.PLAIN)
    if learning.loss is not None:
      batches = map(parallel.host_share, batches)
    return parallel.prefetch(batches)

  def measure(self, state: state_lib.TrainState, task: Task
              ) -> dict[str, float]:
    """Shares that are measured beside scores, where these are due."""
    if self.zero_shot is None or not evaluate.due_after_task(
        self.program.config, self.stream, task):
      return {}
    try:
      return self.zero_shot(state, task)
    finally:
      self.progress.stop_if_asked(state)


def start(program: program_lib.Program, stream: 'ReplayStream',
          frozen: state_lib.FlatParams, evaluator: evaluate.Evaluator,
          log: run_log.RunLog, progress: progress_lib.Progress) -> Run:
  """Puts the frozen parameters on the devices and makes the train steps."""
  frozen = parallel.replicate(frozen)
  train_steps = {kind: make_train_step(program, kind, stream.global_batch_size)
                 for kind in ('', *program.method.learning)}
  zero_shot = None
  if program.config.zero_shot.measure:
    zero_shot = zero_shot_lib.ZeroShot(program, stream, frozen)
    zero_shot.between_batches = evaluator.between_batches
  return Run(program, stream, frozen, train_steps, evaluator,
             probe_lib.Probe(program, stream, frozen, log=log), log, progress,
             zero_shot)


def make_train_step(program: program_lib.Program, kind: str, batch_size: int
                    ) -> TrainStep:
  """The pmapped step of phases of a kind; `batch_size` is the stream's."""
  learning = program.method.learning.get(kind, base.PLAIN)
  config = program_lib.config_of(program.config, learning)
  step = steps.make_train_step(
      config, program.model, program.method,
      program_lib.optimizer_of(config, program.method), learning=learning,
      global_batch_size=learning.batch_size or batch_size)
  return parallel.pmap(
      step, in_axes=(0, 0, 0, None),
      # What was given up cannot be run again, operation by operation.
      donate_argnums=() if jax.config.jax_debug_nans else 0)


def check_frozen(run: Run, task: Task, checksum: str) -> None:
  """Whether what is frozen is what it was, after the last task.

  Raises:
    AssertionError: it is not.
  """
  if task.index < len(run.stream.tasks) - 1:
    return
  now = state_lib.checksum(parallel.unreplicate(run.frozen))
  if now != checksum:
    raise AssertionError(f'frozen parameters changed: their SHA-256 was '
                         f'{checksum} and is {now}')


def open_log(program: program_lib.Program, stream: 'TaskStream', workdir: str,
             first_step: int
             ) -> contextlib.AbstractContextManager[run_log.RunLog]:
  """Context that gives the `RunLog` of a run and closes it."""
  return contextlib.closing(run_log.RunLog(
      workdir, program.config, num_tasks=len(stream.tasks),
      num_steps=sum(program_lib.num_steps(program, stream)),
      first_step=first_step, loss_names=program.method.loss_names,
      batch_size=stream.global_batch_size))
