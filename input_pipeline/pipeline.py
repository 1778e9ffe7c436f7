# SPDX-License-Identifier: Apache-2.0
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

from collections.abc import Iterator, Sequence
import functools

from ml_collections import ConfigDict
import numpy as np

from promptcl.input_pipeline import checks
from promptcl.input_pipeline.read import datasets
from promptcl.input_pipeline.streams import order
from promptcl.input_pipeline.streams import scenarios
from promptcl.input_pipeline.streams import task_stream
from promptcl.input_pipeline.views import examples
from promptcl.input_pipeline.views import loader


def build(config: ConfigDict, *, global_batch_size: int, process_index: int = 0,
          process_count: int = 1) -> 'TaskStream':
  """Opens the data set and splits it into tasks.

  Args:
    config: expanded configuration; everything under "Data" and "Task stream"
      of `configs/base.py`, `seed`, `num_epochs` and how test images are read.
    global_batch_size: images per step over all hosts, training and test.
    process_index: which host this is.
    process_count: number of hosts.

  Returns:
    A `TaskStream`.

  Raises:
    ValueError: a setting that cannot work, in one line.
    FileNotFoundError: the data are not there and cannot be fetched.
  """
  checks.check(config, global_batch_size=global_batch_size,
               process_count=process_count)
  plan = scenarios.plan(config, datasets.load(config))
  return TaskStream(config, plan, global_batch_size=global_batch_size,
                    process_index=process_index, process_count=process_count)


class TaskStream:
  """Tasks, evaluation sets and their batches, on one host.

  Attributes:
    tasks: tuple of `Task`.
    eval_sets: tuple of `EvalSet`, one per task or a single one; those of
      `joint` are those of the stream it came from.
    num_classes: C, width of the head.
    class_order: int64 [C], original label of each head column.
    class_names: tuple of str, by head column.
    label_counts: {'train', 'test'}: int64 [C], images of each original label
      in the used part of a split.
    dataset_name: as configured.
    global_batch_size: G.
    process_index: which host this is.
    process_count: number of hosts.
    examples: the `Examples` that batches are made of.
  """

  def __init__(self, config: ConfigDict, plan: task_stream.Plan, *,
               global_batch_size: int, process_index: int = 0,
               process_count: int = 1):
    """Takes an expanded configuration and a `task_stream.Plan` made with it."""
    dataset = plan.dataset
    self.tasks, self.eval_sets = plan.tasks, plan.eval_sets
    self.class_order = plan.class_order
    self.num_classes = dataset.num_classes
    self.class_names = tuple(
        dataset.class_names[label] for label in self.class_order)
    self.label_counts = {
        name: np.bincount(task_stream.used(config, source.labels),
                          minlength=dataset.num_classes)
        for name, source in (('train', dataset.train), ('test', dataset.test))}
    self.dataset_name = dataset.name
    self.global_batch_size = global_batch_size
    self._config, self._plan = config, plan
    self.examples = examples.Examples(config, dataset, self.class_order)
    self.process_index, self.process_count = process_index, process_count
    self._host_batch_size = global_batch_size // process_count
    checks.check_fits(self, fixed_steps=bool(plan.steps_per_task))

  def joint(self) -> 'TaskStream':
    """The upper bound: all training images as one task.

    Returns:
      A `TaskStream` of one task with all classes, followed by each of this
      stream's evaluation sets.
    """
    return TaskStream(
        self._config, scenarios.joint(self._config, self._plan),
        global_batch_size=self.global_batch_size,
        process_index=self.process_index, process_count=self.process_count)

  def schedule(self, task: task_stream.Task) -> order.Schedule:
    """Steps of a task, an `order.Schedule`.

    They follow from `num_epochs` (see `order.schedule`); an episode of Gaussian
    mode 'paper' has `continual.gaussian_steps`.
    """
    return order.schedule(
        task, num_epochs=self._config.num_epochs,
        global_batch_size=self.global_batch_size,
        num_steps=self._plan.steps_per_task)

  def batches(self, task: task_stream.Task, start_step: int = 0
              ) -> Iterator[task_stream.Batch]:
    """Training batches of this host, from `start_step` of the task on.

    Args:
      task: a `Task`.
      start_step: steps of this task already made.

    Returns:
      Iterator of `schedule(task).num_steps - start_step` dicts: 'image'
      float32 [G / P, S, S, 3] and 'label' int32 [G / P], head columns.
    """
    read, first = self.reader(task), start_step * self.global_batch_size
    return self._load(lambda row: read(first + self._position(row)),
                      self.schedule(task).num_steps - start_step)

  def reader(self, task: task_stream.Task) -> loader.Read:
    """Random access to the examples of a task in the order of its steps.

    Args:
      task: a `Task`.

    Returns:
      Pure function of a position, k * G + r for row r of the global batch of
      step k -> {'image': float32 [S, S, 3], 'label': int32 []}, augmented.
    """
    places = functools.lru_cache(maxsize=2)(
        lambda epoch: order.epoch(self._config.seed, task, epoch))

    def read(position):
      epoch, place = divmod(position, task.num_examples)
      return self.examples.train(task, epoch, places(epoch)[place])

    return read

  def train_rows(self, task: task_stream.Task) -> np.ndarray:
    """Rows of the training split behind all steps of a task, in their order.

    Args:
      task: a `Task`.

    Returns:
      int64 [num_steps * G]: entry p is what `reader` reads at position p.
    """
    count = self.schedule(task).num_steps * self.global_batch_size
    return order.rows(self._config.seed, task, count)

  def eval_batches(self, eval_set: task_stream.EvalSet
                   ) -> Iterator[task_stream.Batch]:
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

  def num_eval_batches(self, eval_set: task_stream.EvalSet) -> int:
    """Batches of an evaluation set, alike on every host."""
    if self._config.eval_drop_remainder:
      return eval_set.num_examples // self.global_batch_size
    return -(-eval_set.num_examples // self.global_batch_size)

  def clean_batches(self, task: task_stream.Task
                    ) -> Iterator[task_stream.Batch]:
    """All training images of a task once, in order, prepared as for a test.

    Args:
      task: a `Task`.

    Returns:
      Iterator of dicts as from `eval_batches`, never with a dropped remainder;
      'index' is the place in `task.train_indices`.
    """
    steps = -(-task.num_examples // self.global_batch_size)
    return self._scan('train', task.train_indices, steps)

  def drawn_batches(self, task: task_stream.Task, count: int, *, augment: bool
                    ) -> Iterator[task_stream.Batch]:
    """Batches over `Examples.drawn`, on every host all `count` images."""
    return self._load(self.examples.drawn(task, count, augment=augment),
                      -(-count // self._host_batch_size))

  def _scan(self, split: str, indices: np.ndarray | Sequence[int],
            num_batches: int) -> Iterator[task_stream.Batch]:
    def read(row):
      return self.examples.clean(split, indices, self._position(row))

    return self._load(read, num_batches)

  def _position(self, row: int) -> int:
    """Place in the global order of this host's `row`."""
    step, offset = divmod(row, self._host_batch_size)
    first = self.process_index * self._host_batch_size
    return step * self.global_batch_size + first + offset

  def _load(self, read: loader.Read, num_batches: int
            ) -> Iterator[task_stream.Batch]:
    return loader.load(read, num_batches, batch_size=self._host_batch_size,
                       num_threads=self._config.data_threads)
