# SPDX-License-Identifier: Apache-2.0
"""How many steps a task has, and which examples stand where in them.

Order is a pure function of (seed, task, epoch): position p of a task is place
p % n of the permutation of its epoch p // n, n being its number of images.
Batches are cut from these positions, so they run across epochs.
"""

import dataclasses

import numpy as np

from promptcl.input_pipeline.streams.task_stream import Task


@dataclasses.dataclass(frozen=True)
class Schedule:
  """Steps of one task: `num_steps` = `steps_per_epoch` * `num_epochs`."""

  steps_per_epoch: int
  num_epochs: int
  num_steps: int


def schedule(task: Task, *, num_epochs: int, global_batch_size: int,
             num_steps: int = 0) -> Schedule:
  """Steps of a task, as the original counts them.

  All epochs together are cut into batches and only the very last remainder is
  dropped; then the count is rounded down to whole epochs (parity notes, 5.5):
  S = n * epochs // G, steps_per_epoch = S // epochs.

  Args:
    task: a `Task`.
    num_epochs: passes over its images.
    global_batch_size: G.
    num_steps: if positive, that many instead, as one epoch.

  Returns:
    A `Schedule`.
  """
  if num_steps:
    return Schedule(num_steps, 1, num_steps)
  steps = task.num_examples * num_epochs // global_batch_size // num_epochs
  return Schedule(steps, num_epochs, steps * num_epochs)


def epoch(seed: int, task: Task, number: int) -> np.ndarray:
  """Places in `task.train_indices`, int64 [num_examples], of an epoch."""
  rng = np.random.default_rng([seed, task.index, number])
  return rng.permutation(task.num_examples)


def rows(seed: int, task: Task, count: int) -> np.ndarray:
  """Rows of the training split at the first `count` positions, int64."""
  num_epochs = -(-count // task.num_examples)
  places = [epoch(seed, task, number) for number in range(num_epochs)]
  return np.asarray(task.train_indices)[np.concatenate(places)[:count]]
