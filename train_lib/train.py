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
import pathlib
import time
from typing import Any

import jax
import numpy as np

import input_pipeline
from train_lib import checkpoint
from train_lib import evaluate
from train_lib import parallel
from train_lib import program as program_lib
from train_lib import report
from train_lib import run_log
from train_lib import state as state_lib
from train_lib import steps
from train_lib.results import Results


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
  config = program.config
  config_json = config.to_json_best_effort()
  claim_workdir(workdir, config_json)
  checkpoints = checkpoint.Checkpointer(
      str(pathlib.Path(workdir).absolute() / 'checkpoints'), config_json)
  evaluator = evaluate.Evaluator(program, stream)
  results = Results(len(stream.tasks), [e.name for e in stream.eval_sets],
                    evaluator.headline)

  frozen, state = program.start()
  last_task = -1
  if restored := checkpoints.restore_latest(state):
    last_task, state, recorded = restored
    results.restore(recorded)
  origin = provenance(config, stream)
  if results.finished:
    checkpoints.close()
    save_results(results, workdir, config_json, origin)
    return results
  frozen, state = parallel.replicate(frozen), parallel.replicate(state)

  train_step = parallel.pmap(
      steps.make_train_step(config, program.model, program.method,
                            program.optimizer,
                            global_batch_size=stream.global_batch_size),
      in_axes=(0, 0, 0, None), donate_argnums=0)
  schedules = [stream.schedule(task) for task in stream.tasks]
  step = sum(s.num_steps for s in schedules[:last_task + 1])
  log = run_log.RunLog(
      workdir, config, num_tasks=len(stream.tasks), first_step=step,
      num_steps=sum(s.num_steps for s in schedules),
      batch_size=stream.global_batch_size)

  with contextlib.closing(checkpoints), contextlib.closing(log):
    for task in stream.tasks[last_task + 1:]:
      started, schedule = time.time(), schedules[task.index]
      state = begin_task(program, state, task)
      info = steps.TaskInfo.create(
          task.index, task.class_mask, first_step=step,
          steps_per_epoch=schedule.steps_per_epoch)

      for i, batch in enumerate(parallel.prefetch(stream.batches(task))):
        state, metrics = train_step(state, frozen, batch, info)
        log.train_step(metrics, task=task.index, step=i,
                       steps_per_epoch=schedule.steps_per_epoch)
        step += 1
        if (i + 1) % schedule.steps_per_epoch == 0:
          check_finite(log.flush_train(step, task=task.index), step, task.index,
                       checkpoints)
        if i + 1 < schedule.num_steps and evaluation_due(
            config, i + 1, schedule.steps_per_epoch):
          scores = evaluator(state, frozen, task, compare=False)
          log.evaluation(step, scores, evaluator.headline)

      trained = time.time() - started
      state = end_task(program, state, task)
      scores = {}
      if not config.eval_last_only or task is stream.tasks[-1]:
        scores = evaluator(state, frozen, task, compare=True)
        log.evaluation(step, scores, evaluator.headline)
      results.record(
          task.index, scores, seconds=trained, images_per_second=(
              schedule.num_steps * stream.global_batch_size / trained))
      if scores:
        log.task_end(step, results, task.index)
      checkpoints.save(
          task.index, parallel.unreplicate(state), results.arrays())
      save_results(results, workdir, config_json, origin)
  return results


def save_results(results: Results, workdir: str, config_json: str,
                 origin: dict[str, Any]) -> None:
  """Writes results.json and results.csv, from the first host."""
  if jax.process_index() == 0:
    results.save(workdir, config_json=config_json, extra=origin)


def claim_workdir(workdir: str, config_json: str) -> None:
  """Writes config.json, unless the folder already belongs to another run.

  Raises:
    ValueError: the folder holds another config; lists what differs.
  """
  path = pathlib.Path(workdir) / 'config.json'
  if path.exists():
    differences = checkpoint.config_differences(path.read_text(), config_json)
    if differences:
      raise ValueError(f'workdir {workdir} belongs to another config '
                       f'(there -> now): {"; ".join(differences)}; '
                       'choose another workdir')
  if jax.process_index() == 0:
    report.write_atomic(path, config_json)


def begin_task(program: program_lib.Program, state: Any, task: Any) -> Any:
  """New optimizer, then the method's hook; replicated state in and out."""
  state = parallel.unreplicate(state)
  if program.config.reinit_optimizer and task.index > 0:
    state = state_lib.with_new_optimizer(state, program.optimizer)
  state = program.method.begin_task(state, task.index, None)
  return parallel.replicate(state)


def end_task(program: program_lib.Program, state: Any, task: Any) -> Any:
  """The method's hook after a task; replicated state in and out."""
  before = parallel.unreplicate(state)
  after = program.method.end_task(before, task.index, None)
  return state if after is before else parallel.replicate(after)


def evaluation_due(config: Any, step: int, steps_per_epoch: int) -> bool:
  """Whether to evaluate after `step` (from 1) of a task, its end aside."""
  if config.eval_last_only:
    return False
  if config.eval_per_epochs > 0:
    return step % (config.eval_per_epochs * steps_per_epoch) == 0
  return config.eval_every_steps > 0 and step % config.eval_every_steps == 0


def check_finite(metrics: dict[str, float], step: int, task: int,
                 checkpoints: Any) -> None:
  """Stops a run whose loss is no longer a number.

  Raises:
    FloatingPointError: names step, task and the last good checkpoint.
  """
  if np.isfinite(metrics['loss']):
    return
  checkpoints.wait()
  last = checkpoints.latest_task
  raise FloatingPointError(
      f'loss is {metrics["loss"]} at step {step}, task {task}; the last good '
      f'checkpoint is {"none" if last is None else f"that of task {last}"}; '
      'lower config.learning_rate')


def provenance(config: Any, stream: Any) -> dict[str, Any]:
  """What numbers may only be compared with when it agrees."""
  checksum = None
  if config.init_checkpoint != program_lib.RANDOM:
    checksum = report.file_sha256(config.init_checkpoint)
  return dict(class_order=stream.class_order, class_names=stream.class_names,
              weights_sha256=checksum, dataset=stream.dataset_name,
              global_batch_size=stream.global_batch_size,
              num_devices=jax.device_count())
