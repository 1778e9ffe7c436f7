# SPDX-License-Identifier: Apache-2.0
"""The story of a run: tasks in, accuracy matrix out."""

import contextlib
import functools
from typing import TYPE_CHECKING

import jax
from ml_collections import ConfigDict

from promptcl import input_pipeline
from promptcl.input_pipeline.streams.order import Schedule
from promptcl.input_pipeline.streams.task_stream import Task
from promptcl.models.parts import base
from promptcl.train_lib import evaluate
from promptcl.train_lib import probe as probe_lib
from promptcl.train_lib import program as program_lib
from promptcl.train_lib import run as run_lib
from promptcl.train_lib import zero_shot
from promptcl.train_lib.around import replay
from promptcl.train_lib.core import parallel
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.records import extras
from promptcl.train_lib.records import run_log
from promptcl.train_lib.records.results import Results
from promptcl.train_lib.records.results import Scores
from promptcl.train_lib.resume import interrupt as interrupt_lib
from promptcl.train_lib.resume import progress as progress_lib
from promptcl.train_lib.resume import workdir as workdir_lib
from promptcl.train_lib.resume.checkpoint import TRAINED
from promptcl.train_lib.steps import train_step as steps

if TYPE_CHECKING:
  from promptcl.input_pipeline.pipeline import TaskStream


def prepare(config: ConfigDict) -> tuple[program_lib.Program, 'TaskStream']:
  """Opens data and checkpoint; compiles nothing.

  Returns:
    The program and the task stream.

  Raises:
    ValueError, FileNotFoundError: one line on what cannot work.
  """
  stream = input_pipeline.build(
      config,
      global_batch_size=config.per_device_batch_size * jax.device_count(),
      process_index=jax.process_index(), process_count=jax.process_count())
  program = program_lib.create(config, stream.num_classes, stream.class_names,
                               num_tasks=len(stream.tasks))
  program.method.check(stream, program.shapes)
  zero_shot.check(program, stream)
  return program, stream


def train_and_evaluate(program: program_lib.Program, stream: 'TaskStream',
                       workdir: str) -> Results:
  """Learns the tasks one after the other and scores all tasks so far.

  Continues where the newest checkpoint in `workdir` was written.

  Args:
    program, stream: from `prepare`.
    workdir: existing folder for results, events and checkpoints.

  Raises:
    ValueError: `workdir` belongs to another config.
    FloatingPointError: a loss that is not finite.
    OSError: a checkpoint could not be saved.
    interrupt.Stopped: after SIGTERM or Ctrl-C; the run is saved.
  """
  config, config_json = program.config, program.config.to_json_best_effort()
  stream = replay.wrap_stream(config, stream)
  resuming = workdir_lib.claim(workdir, config_json)
  evaluator = evaluate.Evaluator(program, stream)
  results = Results(len(stream.tasks), [e.name for e in stream.eval_sets],
                    evaluator.headline)
  origin = workdir_lib.provenance(config, stream)
  save_results = functools.partial(
      workdir_lib.save_results, results, workdir, config_json, origin)

  with contextlib.ExitStack() as closing:
    interrupt = closing.enter_context(interrupt_lib.Interrupt())
    checkpoints = closing.enter_context(workdir_lib.open_checkpoints(workdir))
    frozen, state = program.start()
    origin['frozen_sha256'] = state_lib.checksum(frozen)
    point, state, recorded = workdir_lib.resume(
        checkpoints, state, results, stream)
    if results.finished:
      save_results()
      return results

    interrupt.check()
    if resuming:
      run_log.rewind(workdir, point.events)
    log = closing.enter_context(
        run_lib.open_log(program, stream, workdir, int(state.step)))
    log.restore(recorded)
    progress = progress_lib.Progress(
        config, stream, results, log, checkpoints, interrupt,
        point=point, step=int(state.step))
    evaluator.between_batches = interrupt.check
    run = run_lib.start(program, stream, frozen, evaluator, log, progress)
    state = parallel.replicate(state)
    for task in stream.tasks[point.next_task:]:
      state = train_task(run, state, task)
      shares = run.measure(state, task)
      scores = score_task(run, state, task)
      results.record(task.index, scores, **progress.speed(
          program_lib.steps_on_images(program, stream, task)))
      if scores:
        extras.record(results, task.index, shares,
                      prompt_per_task=program.model.prompt.prompt_per_task)
        log.task_end(progress.step, results, task.index)
      run_lib.check_frozen(run, task, origin['frozen_sha256'])
      if progress.end_task(state, task):
        save_results()
      progress.stop_if_asked(state)
  return results


def train_task(run: run_lib.Run, state: state_lib.TrainState, task: Task
               ) -> state_lib.TrainState:
  """One task, or what is left of it: the method's hook, its phases, its hook.

  Args:
    run: of all tasks.
    state: replicated; is given up.
    task: of the stream.

  Returns:
    The state after the task.
  """
  program, probe, progress = run.program, run.probe.at(task), run.progress
  if progress.begin_task(task):
    state = begin_task(program, state, task, probe)
  if progress.point.stage == TRAINED:
    return state
  for phase in program.method.phases(run.stream, task):
    if progress.begin_phase(phase):
      state = begin_phase(program, state, task, phase, probe)
    state = train_phase(run, state, task, phase)
  state = end_task(program, state, task, probe)
  run.stream.end_task(task)
  progress.end_training(state)
  return state


def train_phase(run: run_lib.Run, state: state_lib.TrainState, task: Task,
                phase: base.Phase) -> state_lib.TrainState:
  """The steps of the phase at work that are not done yet.

  A checkpoint is older than the evaluation after its step, which therefore
  comes first when a run goes on.
  """
  progress, schedule = run.progress, phase.schedule
  if not schedule.num_steps:
    return state
  num_done = min(progress.step - progress.phase_start, schedule.num_steps)
  if num_done:
    evaluate_within(run, state, task, schedule, num_done)
  info = steps.TaskInfo.create(
      task.index, task.class_mask, first_step=progress.phase_start,
      steps_per_epoch=schedule.steps_per_epoch)
  train_step = run.train_steps[phase.kind]
  batches = run.batches(state, phase, task, num_done)
  for i, batch in enumerate(batches, start=num_done + 1):
    state, metrics = train_step(state, run.frozen, batch, info)
    run.log.train_step(metrics, task=task.index, phase=phase, step=i)
    progress.count_step()
    if i % schedule.steps_per_epoch == 0:
      progress.flush_log()
    progress.after_step(state)
    evaluate_within(run, state, task, schedule, i)
  return state


def evaluate_within(run: run_lib.Run, state: state_lib.TrainState, task: Task,
                    schedule: Schedule, i: int) -> None:
  """Evaluates after step `i` of a phase if that is due, its end aside."""
  if task.eval_sets and i < schedule.num_steps and evaluate.due_after_step(
      run.program.config, i, schedule.steps_per_epoch):
    score(run, state, task, compare=False)


def score_task(run: run_lib.Run, state: state_lib.TrainState, task: Task
               ) -> dict[int, Scores]:
  """Scores of a task that is done, by set; none where none are due."""
  if not evaluate.due_after_task(run.program.config, run.stream, task):
    return {}
  scores = score(run, state, task, compare=True)
  if run.evaluator.shown:
    run.log.pictures(run.progress.step, run.program.method.pictures(
        run.evaluator.shown))
  return scores


def score(run: run_lib.Run, state: state_lib.TrainState, task: Task, *,
          compare: bool) -> dict[int, Scores]:
  """One evaluation; a signal that comes meanwhile ends it and saves the run."""
  try:
    scores = run.evaluator(state, run.frozen, task, compare=compare)
  finally:
    run.progress.stop_if_asked(state)
  run.log.evaluation(run.progress.step, scores, run.evaluator.headline)
  return scores


def begin_task(program: program_lib.Program, state: state_lib.TrainState,
               task: Task, probe: probe_lib.Probe) -> state_lib.TrainState:
  """New optimizer, then the method's hook; replicated state in and out."""
  return between_steps(
      program, state, task, program.method.begin_task, probe,
      renew=program.config.reinit_optimizer and task.index > 0)


def begin_phase(program: program_lib.Program, state: state_lib.TrainState,
                task: Task, phase: base.Phase, probe: probe_lib.Probe
                ) -> state_lib.TrainState:
  """New optimizer if the phase has one of its own, then the phase's hook."""
  return between_steps(program, state, task, phase.begin, probe,
                       renew=bool(phase.kind))


def end_task(program: program_lib.Program, state: state_lib.TrainState,
             task: Task, probe: probe_lib.Probe) -> state_lib.TrainState:
  """The method's hook after a task; replicated state in and out."""
  return between_steps(program, state, task, program.method.end_task, probe)


def between_steps(program: program_lib.Program, state: state_lib.TrainState,
                  task: Task, hook: base.Hook, probe: probe_lib.Probe, *,
                  renew: bool = False) -> state_lib.TrainState:
  """A new optimizer if asked for, then a hook; replicated in and out."""
  if not renew and hook is base.keep_state:
    return state
  before = after = parallel.unreplicate(state)
  if renew:
    after = state_lib.with_new_optimizer(before, program.optimizer)
  after = hook(after, task.index, probe)
  return state if after is before else parallel.replicate(after)
