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
"""The story of a run: tasks in, accuracy matrix out."""

import contextlib
import dataclasses
import functools
import time
from typing import Any

import jax

import input_pipeline
from models.prompts import base
from train_lib import cadence
from train_lib import checkpoint
from train_lib import evaluate
from train_lib import parallel
from train_lib import probe as probe_lib
from train_lib import program as program_lib
from train_lib import replay
from train_lib import run_log
from train_lib import state as state_lib
from train_lib import steps
from train_lib import workdir as workdir_lib
from train_lib.results import Results
from train_lib.results import Scores


def prepare(config: Any) -> tuple[program_lib.Program, Any]:
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
  return program_lib.create(config, stream.num_classes), stream


def train_and_evaluate(program: program_lib.Program, stream: Any, workdir: str
                       ) -> Results:
  """Learns the tasks one after the other and scores all tasks so far.

  Continues after the last task that `workdir` holds a checkpoint of.

  Args:
    program, stream: from `prepare`.
    workdir: existing folder for results, events and checkpoints.

  Returns:
    The results of the whole run.

  Raises:
    ValueError: `workdir` belongs to another config.
    FloatingPointError: a loss that is not finite.
  """
  config, config_json = program.config, program.config.to_json_best_effort()
  stream = replay.wrap_stream(config, stream)
  workdir_lib.claim(workdir, config_json)
  evaluator = evaluate.Evaluator(program, stream)
  results = Results(len(stream.tasks), [e.name for e in stream.eval_sets],
                    evaluator.headline)
  save_results = functools.partial(
      workdir_lib.save_results, results, workdir, config_json,
      workdir_lib.provenance(config, stream))

  with contextlib.ExitStack() as closing:
    checkpoints = closing.enter_context(workdir_lib.open_checkpoints(workdir))
    frozen, state = program.start()
    last_task = -1
    if restored := checkpoints.restore_latest(state):
      last_task, state, recorded = restored
      results.restore(recorded)
      stream.restore(recorded)
    if results.finished:
      save_results()
      return results

    step = int(state.step)
    log = closing.enter_context(open_log(program, stream, workdir, step))
    run = start_run(program, stream, frozen, evaluator, log, checkpoints)
    state = parallel.replicate(state)
    for task in stream.tasks[last_task + 1:]:
      started, first_step = time.time(), step
      state, step = train_task(run, state, task, step)
      stream.end_task(task)
      seconds = time.time() - started
      scores = score_task(run, state, task, step)
      results.record(
          task.index, scores, seconds=seconds, images_per_second=(
              (step - first_step) * stream.global_batch_size / seconds))
      if scores:
        log.task_end(step, results, task.index)
      if cadence.saved_after(stream, task):
        checkpoints.save(task.index, parallel.unreplicate(state),
                         {**results.arrays(), **stream.arrays()})
        save_results()
  return results


@dataclasses.dataclass(frozen=True)
class Run:
  """What all tasks of a run share.

  Attributes:
    program, stream: from `prepare`.
    frozen: replicated.
    train_step: compiled once.
    evaluator: scores evaluation sets.
    probe: what hooks may ask of the model; `probe.at(task)` is for a task.
    log, checkpoints: where metrics and finished tasks go.
  """

  program: program_lib.Program
  stream: Any
  frozen: Any
  train_step: Any
  evaluator: evaluate.Evaluator
  probe: probe_lib.Probe
  log: run_log.RunLog
  checkpoints: checkpoint.Checkpointer


def start_run(program: program_lib.Program, stream: Any, frozen: Any,
              evaluator: evaluate.Evaluator, log: run_log.RunLog,
              checkpoints: checkpoint.Checkpointer) -> Run:
  """Puts the frozen parameters on the devices and makes the train step."""
  frozen = parallel.replicate(frozen)
  train_step = parallel.pmap(
      steps.make_train_step(program.config, program.model, program.method,
                            program.optimizer,
                            global_batch_size=stream.global_batch_size),
      in_axes=(0, 0, 0, None), donate_argnums=0)
  return Run(program, stream, frozen, train_step, evaluator,
             probe_lib.Probe(program, stream, frozen), log, checkpoints)


def train_task(run: Run, state: Any, task: Any, step: int) -> tuple[Any, int]:
  """One task: the method's hook, its phases, its hook.

  Args:
    run: of all tasks.
    state: replicated; is given up.
    task: of the stream.
    step: steps made so far in the whole run.

  Returns:
    The state after the task and the steps made by then.
  """
  program, probe = run.program, run.probe.at(task)
  state = begin_task(program, state, task, probe)
  for phase in program.method.phases(run.stream, task):
    schedule = phase.schedule
    info = steps.TaskInfo.create(
        task.index, task.class_mask, first_step=step,
        steps_per_epoch=schedule.steps_per_epoch)
    for i, batch in enumerate(parallel.prefetch(phase.batches()), start=1):
      state, metrics = run.train_step(state, run.frozen, batch, info)
      run.log.train_step(metrics, task=task.index, step=i - 1,
                         steps_per_epoch=schedule.steps_per_epoch)
      step += 1
      if i % schedule.steps_per_epoch == 0:
        run_log.check_finite(run.log.flush_train(step, task=task.index), step,
                             task.index, run.checkpoints)
      if task.eval_sets and i < schedule.num_steps and cadence.evaluation_due(
          program.config, i, schedule.steps_per_epoch):
        scores = run.evaluator(state, run.frozen, task, compare=False)
        run.log.evaluation(step, scores, run.evaluator.headline)
  return end_task(program, state, task, probe), step


def score_task(run: Run, state: Any, task: Any, step: int
               ) -> dict[int, Scores]:
  """Scores of a task that is done, by set; none where none are due."""
  if not cadence.evaluated_after(run.program.config, run.stream, task):
    return {}
  scores = run.evaluator(state, run.frozen, task, compare=True)
  run.log.evaluation(step, scores, run.evaluator.headline)
  return scores


def begin_task(program: program_lib.Program, state: Any, task: Any,
               probe: probe_lib.Probe) -> Any:
  """New optimizer, then the method's hook; replicated state in and out."""
  renew = program.config.reinit_optimizer and task.index > 0
  hook = program.method.begin_task
  if not renew and hook is base.keep_state:
    return state
  before = after = parallel.unreplicate(state)
  if renew:
    after = state_lib.with_new_optimizer(before, program.optimizer)
  after = hook(after, task.index, probe)
  return state if after is before else parallel.replicate(after)


def end_task(program: program_lib.Program, state: Any, task: Any,
             probe: probe_lib.Probe) -> Any:
  """The method's hook after a task; replicated state in and out."""
  hook = program.method.end_task
  if hook is base.keep_state:
    return state
  before = parallel.unreplicate(state)
  after = hook(before, task.index, probe)
  return state if after is before else parallel.replicate(after)


def open_log(program: program_lib.Program, stream: Any, workdir: str,
             first_step: int) -> Any:
  """Context that gives the `RunLog` of a run and closes it."""
  num_steps = sum(phase.schedule.num_steps for task in stream.tasks
                  for phase in program.method.phases(stream, task))
  return contextlib.closing(run_log.RunLog(
      workdir, program.config, num_tasks=len(stream.tasks),
      num_steps=num_steps, first_step=first_step,
      batch_size=stream.global_batch_size))
