# SPDX-License-Identifier: Apache-2.0
"""Task streams around recorded batches."""

from collections.abc import Iterator
import pathlib
import tempfile
from typing import Any

import numpy as np

from promptcl import input_pipeline
from tests.parity import bridge
from tests.parity.fixture import Fixture
from tests.parity.report import Report


def global_batches(array: np.ndarray, ndim: int) -> np.ndarray:
  """[tasks, steps, D, B, ...] -> [tasks, steps, D * B, ...] of `ndim` axes."""
  if array.ndim == ndim:
    return array
  return array.reshape(*array.shape[:2], -1, *array.shape[4:])


class Recorded:
  """The recorded test batches, as the evaluator wants a stream."""

  def __init__(self, images: np.ndarray, labels: np.ndarray,
               masks: np.ndarray):
    """images [tasks, batches, G, s, s, 3], labels likewise, masks [T, C]."""
    self._batches = [
        [{'image': image, 'label': labels[t][i],
          'mask': np.ones(labels[t][i].shape, np.float32)}
         for i, image in enumerate(task)] for t, task in enumerate(images)]
    self.num_classes = masks.shape[1]
    count = labels[0].size
    self.eval_sets = tuple(
        input_pipeline.EvalSet(t, f'task_{t + 1}', masks[t], np.arange(count),
                               count) for t in range(len(images)))
    self.tasks = tuple(
        input_pipeline.Task(t, (), mask, np.zeros(0, int), 0,
                            tuple(range(t + 1)))
        for t, mask in enumerate(masks))

  def eval_batches(self, eval_set: input_pipeline.EvalSet
                   ) -> Iterator[dict[str, np.ndarray]]:
    """The batches of one task."""
    return iter(self._batches[eval_set.index])


def compare_schedule(fixture: Fixture, report: Report, masks: np.ndarray,
                     batch_size: int) -> int:
  """Steps per epoch, from a real stream over as many images as recorded.

  Args:
    fixture: says how many images a task has.
    report: takes the comparisons.
    masks: bool [T, C], recorded classes of the tasks.
    batch_size: global.

  Returns:
    The recorded number, or ours where none is.
  """
  meta = fixture.meta
  num_images = meta.get('train_examples_per_task')
  if num_images is None:
    return meta['steps_per_epoch']
  stream = _stream(meta, masks, num_images, batch_size)
  schedule = stream.schedule(stream.tasks[0])
  steps_per_epoch = meta.get('steps_per_epoch', schedule.steps_per_epoch)
  report.compare('meta.steps_per_epoch', schedule.steps_per_epoch,
                 steps_per_epoch, remark=f'{num_images} images a task')
  report.compare('steps of a task', schedule.num_steps,
                 fixture['train/image'].shape[1])
  report.compare('meta.class_masks', [t.class_mask for t in stream.tasks],
                 masks)
  return steps_per_epoch


def _stream(meta: Any, masks: np.ndarray, num_images: int, batch_size: int
            ) -> input_pipeline.TaskStream:
  """A stream over small black pictures, `num_images` a task."""
  labels = np.concatenate(
      [np.resize(np.flatnonzero(mask), num_images) for mask in masks])
  test = np.arange(masks.shape[1])
  pictures = np.zeros((max(len(labels), len(test)), 4, 4, 3), np.uint8)
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, 'pictures.npz')
    np.savez(path, train_images=pictures[:len(labels)],
             train_labels=labels.astype(np.int32),
             test_images=pictures[:len(test)],
             test_labels=test.astype(np.int32))
    config = bridge.expand(meta, {'config': {'dataset': f'npz:{path}'}})
    return input_pipeline.build(config, global_batch_size=batch_size)
