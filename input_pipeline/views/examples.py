# SPDX-License-Identifier: Apache-2.0
"""One example, from the source to the arrays of a batch row."""

from collections.abc import Sequence
import functools

from ml_collections import ConfigDict
import numpy as np

from promptcl.input_pipeline.read.base import Dataset
from promptcl.input_pipeline.streams import task_stream
from promptcl.input_pipeline.streams.task_stream import Task
from promptcl.input_pipeline.views import loader
from promptcl.input_pipeline.views import preprocess
from promptcl.input_pipeline.views import transforms

# Last word of an augmentation seed, so that no such seed is that of an order
# (NumPy pads seeds with zeros: [s, t, e] and [s, t, e, 0] are the same).
_AUGMENT = 1
_DRAWN = 2


class Examples:
  """Reads, augments and normalizes; labels become head columns.

  A pure function of its arguments: any thread may ask for any example.
  """

  def __init__(self, config: ConfigDict, dataset: Dataset,
               class_order: np.ndarray):
    """Takes a configuration, a `Dataset` and int [C], label of each column."""
    self._config = config
    self._dataset = dataset
    self._class_order = np.asarray(class_order)
    self._columns = np.argsort(class_order).astype(np.int32)
    self._transform = transforms.create(
        config.transform, resize_size=config.resize_size,
        crop_size=config.input_size, augmentation=config.augmentation)
    self._input_range = _input_range(config)
    if self._input_range == 'dataset':
      self._means, self._stds = dataset.statistics()

  def train(self, task: Task, epoch: int, place: int) -> task_stream.Row:
    """Augmented image of a task.

    Args:
      task: a `Task`.
      epoch: of the task, from 0.
      place: which of `task.train_indices`.

    Returns:
      {'image': float32 [S, S, 3], 'label': int32 []}, the augmentation drawn
      from (seed, task, epoch, row of the training split).
    """
    index = int(task.train_indices[place])
    seed = [self._config.seed, task.index, epoch, index, _AUGMENT]
    column = self.columns(index)
    return {'image': self.augment(self.native(index), column, seed),
            'label': column}

  def native(self, index: int) -> np.ndarray:
    """Picture of a row of the training split as stored, uint8 [h, w, 3]."""
    return self._dataset.train.image(index)

  def columns(self, rows: int | np.ndarray) -> np.ndarray:
    """Head column of a row of the training split; int32, as many as rows."""
    return self._columns[self._dataset.train.labels[rows]]

  def augment(self, image: np.ndarray, column: int | np.integer,
              seed: Sequence[int]) -> np.ndarray:
    """Prepares a picture for training.

    Args:
      image: uint8 [h, w, 3].
      column: its head column; in a sequence of data sets it says which one's
        statistics count.
      seed: list of int, all that the augmentation depends on.

    Returns:
      float32 [S, S, 3].
    """
    image = self._transform.train(image, np.random.default_rng(seed))
    return self._normalize(image, self._class_order[column])

  def clean(self, split: str, indices: np.ndarray | Sequence[int], place: int
            ) -> task_stream.Row:
    """Image prepared as for a test, or padding.

    Args:
      split: 'train' or 'test'.
      indices: rows of the split.
      place: which of `indices`; past the end the row is padding.

    Returns:
      {'image': float32 [S, S, 3], 'label': int32 [], 'mask': float32 [],
      'index': int32 []}: mask 1 and index `place`, or all zero.
    """
    if place >= len(indices):
      return self._padding
    index = int(indices[place])
    source = getattr(self._dataset, split)
    image = self._transform.test(source.image(index))
    label = source.labels[index]
    return {'image': self._normalize(image, label),
            'label': self._columns[label],
            'mask': np.float32(1), 'index': np.int32(place)}

  def drawn(self, task: Task, count: int, *, augment: bool) -> loader.Read:
    """Training images of a task for whoever studies it.

    Which ones, and their augmentation, depend on (seed, task) alone and on
    random numbers of their own: training sees what it would see without.

    Args:
      task: a `Task`.
      count: how many, each another one.
      augment: prepare them as for training; else as for a test.

    Returns:
      Pure function of a row -> dict as from `clean`; past `count` is padding.
    """
    seed = [self._config.seed, task.index, 0, _DRAWN]
    places = np.random.default_rng(seed).permutation(task.num_examples)
    rows = np.asarray(task.train_indices)[places[:count]]

    def read(place):
      row = self.clean('train', rows, place)
      if augment and row['mask']:
        index = int(rows[place])
        row['image'] = self.augment(
            self.native(index), row['label'], [*seed, index])
      return row

    return read

  @functools.cached_property
  def _padding(self) -> task_stream.Row:
    size = self._config.input_size
    return {'image': np.zeros((size, size, 3), np.float32),
            'label': np.int32(0), 'mask': np.float32(0), 'index': np.int32(0)}

  def _normalize(self, image: np.ndarray, label: int) -> np.ndarray:
    if self._input_range != 'dataset':
      return preprocess.normalize(image, self._input_range)
    # A sequence of data sets has a mean and deviation for each of them.
    return preprocess.normalize(image, 'dataset', self._means[label],
                                self._stds[label])


def _input_range(config: ConfigDict) -> str:
  if config.input_range != 'auto':
    return config.input_range
  return 'zero_one' if config.norm_01 else 'dataset'
