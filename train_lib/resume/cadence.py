# SPDX-License-Identifier: Apache-2.0
"""When a run evaluates and when it saves."""

from typing import Any


def evaluated_after(config: Any, stream: Any, task: Any) -> bool:
  """Whether a task is followed by an evaluation."""
  last = task.index == len(stream.tasks) - 1
  return bool(task.eval_sets) and (last or not config.eval_last_only)


def saved_after(stream: Any, task: Any) -> bool:
  """Whether a checkpoint is due: not after each of 200 short episodes."""
  return bool(task.eval_sets) or task.index == len(stream.tasks) - 1


def save_due(config: Any, step: int) -> bool:
  """Whether to save after `step` of the whole run, as the original counts."""
  every = config.checkpoint_every_steps
  return every > 0 and step % every == 0


def evaluation_due(config: Any, step: int, steps_per_epoch: int) -> bool:
  """Whether to evaluate after `step` (from 1) of a task, its end aside."""
  if config.eval_last_only:
    return False
  if config.eval_per_epochs > 0:
    return step % (config.eval_per_epochs * steps_per_epoch) == 0
  return config.eval_every_steps > 0 and step % config.eval_every_steps == 0
