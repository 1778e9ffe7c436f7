# SPDX-License-Identifier: Apache-2.0
"""What IT-Prompt learns from besides images: rows of vectors and of labels."""

from collections.abc import Iterator
import dataclasses
from typing import TYPE_CHECKING

from ml_collections import ConfigDict
import numpy as np

if TYPE_CHECKING:
  from promptcl.input_pipeline.pipeline import TaskStream
  from promptcl.input_pipeline.streams.task_stream import Task
  from promptcl.train_lib.probe import Probe

Rows = Iterator[dict[str, np.ndarray]]
_SELECT, _ALIGN = 3, 4  # tell their random numbers from those for images


@dataclasses.dataclass(frozen=True)
class Steps:
  """Schedule of a phase on vectors; see `base.Phase`."""

  steps_per_epoch: int
  num_epochs: int

  @property
  def num_steps(self) -> int:
    """In all epochs."""
    return self.steps_per_epoch * self.num_epochs


def selector_rows(config: ConfigDict, stream: 'TaskStream', task: 'Task',
                  schedule: Steps, made: int, probe: 'Probe') -> Rows:
  """Rows of all steps but the `made` first, see `it_losses.selector_loss`.

  A step has `selector_batch` embeddings of the task's images, each of which
  comes once an epoch, and as many draws of earlier classes.  What is missing of
  either has weight 0.
  """
  if made >= schedule.num_steps:
    return
  size, old = config.it_prompt.selector_batch, classes_so_far(
      stream, task.index)
  found = probe.features(None)
  count, draws = len(found['label']), old.size > 0
  for epoch, steps in _epochs(schedule, made):
    rng = np.random.default_rng([config.seed, task.index, epoch, _SELECT])
    # [steps, size] each; of the last step only some count.
    places = np.resize(rng.permutation(count), (schedule.steps_per_epoch, size))
    counts = np.arange(places.size).reshape(places.shape) < count
    others = rng.choice(old, places.shape) if draws else (
        found['label'][places])
    for i in steps:
      real = np.concatenate([counts[i], np.full(size, draws)])
      yield {'vector': np.repeat(found['query'][places[i]][None], 2, axis=0
                                 ).reshape(2 * size, -1),
             'drawn': np.repeat([False, draws], size),
             'label': np.concatenate(
                 [found['label'][places[i]], others[i]]).astype(np.int32),
             'weight': np.float32(real / real.mean())}


def alignment_rows(config: ConfigDict, stream: 'TaskStream', task: 'Task',
                   schedule: Steps, made: int, probe: 'Probe') -> Rows:
  """Rows of all steps but the `made` first, see `it_losses.alignment_loss`.

  An epoch draws equally often from each class so far.
  """
  del probe
  draws = config.it_prompt.align_draws
  labels = np.repeat(classes_so_far(stream, task.index + 1), draws)
  for epoch, steps in _epochs(schedule, made):
    rng = np.random.default_rng([config.seed, task.index, epoch, _ALIGN])
    mixed = rng.permutation(labels)
    for i in steps:
      yield {'label': mixed[i * draws:(i + 1) * draws].astype(np.int32)}


def _epochs(schedule: Steps, made: int) -> Iterator[tuple[int, range]]:
  """Epochs that have steps left, and these steps."""
  each = schedule.steps_per_epoch
  for epoch in range(made // each, schedule.num_epochs):
    yield epoch, range(max(made - epoch * each, 0), each)


def classes_so_far(stream: 'TaskStream', num_tasks: int) -> np.ndarray:
  """Classes of the first tasks, ascending."""
  return np.flatnonzero(np.any(
      [task.class_mask for task in stream.tasks[:num_tasks]], axis=0))
