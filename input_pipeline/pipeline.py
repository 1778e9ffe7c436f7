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
"""Order, host share, augmentation, batching and padding of a task stream.

    stream = build(config, global_batch_size=128)
    for task in stream.tasks:
      for batch in stream.batches(task):          # image, label
        ...
      for number in task.eval_sets:
        for batch in stream.eval_batches(stream.eval_sets[number]):
          ...                                     # image, label, mask, index

Order is a pure function of (seed, task, position): position k * G + r is row r
of step k whatever the number of hosts, and a run that resumes at `start_step`
sees the very next example. G is the global batch, P the number of hosts.
"""

import dataclasses
import functools

import numpy as np

from input_pipeline import datasets
from input_pipeline import examples
from input_pipeline import loader
from input_pipeline import preprocess
from input_pipeline import task_stream


@dataclasses.dataclass(frozen=True)
class Schedule:
  """Steps of one task: `num_steps` = `steps_per_epoch` * `num_epochs`."""

  steps_per_epoch: int
  num_epochs: int
  num_steps: int


def build(config, *, global_batch_size, process_index=0, process_count=1):
  """Opens the data set and splits it into tasks.

  Args:
    config: expanded configuration; reads `dataset`, `data_dir`, `seed`,
      `input_size`, `resize_size`, `input_range`, `norm_01`, `augmentation`,
      `num_epochs`, `subsample_rate`, `reverse_task`, `eval_drop_remainder`,
      `data_threads`, `gaussian_schedule` and `continual`.
    global_batch_size: images per step over all hosts, training and test.
    process_index: which host this is.
    process_count: number of hosts.

  Returns:
    A `TaskStream`.

  Raises:
    ValueError: a setting that cannot work, in one line.
    FileNotFoundError: the data are not there and cannot be fetched.
  """
  if config.gaussian_schedule:
    raise ValueError('gaussian_schedule=True: the stream of the Gaussian '
                     'schedule is not built yet; set gaussian_schedule=False')
  _check(config, global_batch_size, process_count)
  return TaskStream(
      config, datasets.load(config), global_batch_size=global_batch_size,
      process_index=process_index, process_count=process_count)


class TaskStream:
  """Tasks, evaluation sets and their batches, on one host.

  Attributes:
    tasks: tuple of `Task`.
    eval_sets: tuple of `EvalSet`.
    num_classes: C, width of the head.
    class_order: int64 [C], original label of each head column.
    class_names: tuple of str, by head column.
    dataset_name: as configured.
    global_batch_size: G.
  """

  def __init__(self, config, dataset, *, global_batch_size, process_index=0,
               process_count=1):
    self.tasks, self.eval_sets = task_stream.class_incremental(config, dataset)
    self.class_order = task_stream.class_order(config, dataset.num_classes)
    self.num_classes = dataset.num_classes
    self.class_names = tuple(
        dataset.class_names[label] for label in self.class_order)
    self.dataset_name = dataset.name
    self.global_batch_size = global_batch_size
    self._config = config
    self._examples = examples.Examples(config, dataset, self.class_order)
    self._host_batch_size = global_batch_size // process_count
    self._offset = process_index * self._host_batch_size
    for task in self.tasks:
      self._check_fits(task)

  def schedule(self, task):
    """Steps of a task, as the original counts them.

    All epochs together are cut into batches and only the very last remainder
    is dropped; then the count is rounded down to whole epochs (parity notes,
    5.5): S = n * epochs // G, steps_per_epoch = S // epochs.

    Args:
      task: a `Task`.

    Returns:
      A `Schedule`.
    """
    epochs = self._config.num_epochs
    steps = task.num_examples * epochs // self.global_batch_size // epochs
    return Schedule(steps, epochs, steps * epochs)

  def locate(self, step):
    """Task and step within it of a step counted over the whole run.

    Args:
      step: number of optimizer steps already made.

    Returns:
      (task, step_in_task); task is None when all tasks are done.
    """
    for task in self.tasks:
      num_steps = self.schedule(task).num_steps
      if step < num_steps:
        return task, step
      step -= num_steps
    return None, step

  def batches(self, task, start_step=0):
    """Training batches of this host, from `start_step` of the task on.

    Args:
      task: a `Task`.
      start_step: steps of this task already made.

    Returns:
      Iterator of `schedule(task).num_steps - start_step` dicts: 'image'
      float32 [G / P, S, S, 3] and 'label' int32 [G / P], head columns.
    """
    order = functools.lru_cache(maxsize=2)(
        lambda epoch: _epoch_order(self._config.seed, task, epoch))

    def read(row):
      position = start_step * self.global_batch_size + self._position(row)
      epoch, place = divmod(position, task.num_examples)
      return self._examples.train(task, epoch, order(epoch)[place])

    return self._load(read, self.schedule(task).num_steps - start_step)

  def eval_batches(self, eval_set):
    """Test batches of this host; over all hosts every image comes once.

    Args:
      eval_set: an `EvalSet`.

    Returns:
      Iterator of `num_eval_batches(eval_set)` dicts: 'image' and 'label' as in
      training; 'mask' float32 [G / P], 0 for padding; 'index' int32 [G / P],
      place in the evaluation set (0 for padding).
    """
    return self._scan('test', eval_set.indices,
                      self.num_eval_batches(eval_set))

  def num_eval_batches(self, eval_set):
    """Batches of an evaluation set, alike on every host."""
    if self._config.eval_drop_remainder:
      return eval_set.num_examples // self.global_batch_size
    return -(-eval_set.num_examples // self.global_batch_size)

  def clean_batches(self, task):
    """All training images of a task once, in order, prepared as for a test.

    Args:
      task: a `Task`.

    Returns:
      Iterator of dicts as from `eval_batches`, never with a dropped remainder;
      'index' is the place in `task.train_indices`.
    """
    steps = -(-task.num_examples // self.global_batch_size)
    return self._scan('train', task.train_indices, steps)

  def _scan(self, split, indices, num_batches):
    def read(row):
      return self._examples.clean(split, indices, self._position(row))

    return self._load(read, num_batches)

  def _position(self, row):
    """Place in the global order of this host's `row`."""
    step, offset = divmod(row, self._host_batch_size)
    return step * self.global_batch_size + self._offset + offset

  def _load(self, read, num_batches):
    return loader.load(read, num_batches, batch_size=self._host_batch_size,
                       num_threads=self._config.data_threads)

  def _check_fits(self, task):
    """A batch must not be larger than a task (or, dropped, than a test)."""
    size, name = self.global_batch_size, self.dataset_name
    if task.num_examples < size:
      raise ValueError(
          f'the global batch of {size} is larger than task {task.index + 1} of '
          f'{name}, which has {task.num_examples} training images; lower '
          'per_device_batch_size')
    eval_set = self.eval_sets[task.index]
    if not self.num_eval_batches(eval_set):
      raise ValueError(
          f'eval_drop_remainder=True drops all {eval_set.num_examples} test '
          f'images of task {task.index + 1} of {name}: they do not fill a '
          f'global batch of {size}')


def _epoch_order(seed, task, epoch):
  rng = np.random.default_rng([seed, task.index, epoch])
  return rng.permutation(task.num_examples)


def _check(config, global_batch_size, process_count):
  """Settings that need no data to be seen wrong."""
  if global_batch_size < 1 or global_batch_size % process_count:
    raise ValueError(f'a global batch of {global_batch_size} does not divide '
                     f'among {process_count} hosts')
  if not 0 < config.input_size <= config.resize_size:
    raise ValueError(
        f'input_size={config.input_size} is cut out of '
        f'resize_size={config.resize_size} and must not be larger')
  for key, have in (('input_range', ('auto', *preprocess.INPUT_RANGES)),
                    ('augmentation', preprocess.AUGMENTATIONS)):
    if config[key] not in have:
      raise ValueError(f'unknown {key} {config[key]!r}, have {have}')
  for key, least in (('num_epochs', 1), ('seed', 0), ('data_threads', 0)):
    if config[key] < least:
      raise ValueError(f'{key}={config[key]} must be at least {least}')
  if config.subsample_rate > 100:
    raise ValueError(f'subsample_rate={config.subsample_rate} is a percentage')
