# SPDX-License-Identifier: Apache-2.0
"""A task stream whose training batches hold replayed pictures, too.

  stream = ReplayStream(config, stream)       # the stream itself, if capacity 0
  for task in stream.tasks:
    for batch in stream.batches(task):        # new and replayed pictures
      ...
    stream.end_task(task)                     # the store takes its share
    for batch in stream.review_batches(task): # the store alone
      ...

Rows of a batch stand in device order, for each device first its B new pictures
and then its R replayed ones, or 2 R where stored logits are distilled: DER++
draws twice (Buzzega et al., 2020, eq. 6).  While the store is empty these rows
are padding, so shapes never change.  New pictures are the very ones that come
without replay.

Whatever a batch holds is a pure function of (seed, task, step): a draw takes
the store as of the pictures of earlier steps, which is known beforehand
(`replay_store.changes`), so threads may work ahead, hosts agree without a word
and a run that resumes at any step goes on as if it had not stopped.
"""

from collections.abc import Callable, Iterator, Mapping
import functools
from typing import Any, TYPE_CHECKING

from ml_collections import ConfigDict
import numpy as np

from promptcl.input_pipeline.streams import order
from promptcl.input_pipeline.streams import replay_rows
from promptcl.input_pipeline.streams import replay_store
from promptcl.input_pipeline.streams import task_stream
from promptcl.input_pipeline.streams.task_stream import Task
from promptcl.input_pipeline.views import loader

if TYPE_CHECKING:
  from promptcl.input_pipeline.pipeline import TaskStream

_PREFIX = 'replay:'


def check_replay(config: ConfigDict, num_classes: int = 0) -> None:
  """Refuses settings of `config.replay` that cannot work together.

  Args:
    config: expanded.
    num_classes: of the data set, where it is known already.

  Raises:
    ValueError: one line, names the key.
  """
  replay = config.replay
  for key in ('capacity', 'batch_size', 'review_epochs', 'label_weight',
              'dark_weight'):
    if replay[key] < 0:
      raise ValueError(f'config.replay.{key} is {replay[key]}, must not be '
                       'negative')
  for key in ('review_epochs', 'dark_weight', 'batch_size'):
    if replay[key] and not replay.capacity:
      raise ValueError(f'config.replay.{key} {replay[key]} needs a store: set '
                       'config.replay.capacity')
  if replay.dark_weight and replay.policy != 'reservoir':
    raise ValueError(
        'config.replay.dark_weight keeps the logits of a picture as it enters '
        'the store, which needs config.replay.policy reservoir')
  if replay.policy == 'class_balanced' and 0 < replay.capacity < num_classes:
    raise ValueError(
        f'config.replay.capacity {replay.capacity} has no room for each of the '
        f'{num_classes} classes; raise it or set config.replay.policy '
        'reservoir')


class ReplayStream:
  """A `TaskStream` with a store; what is not named here is the stream's own.

  Attributes:
    store: the `Store` as of the last `end_task`.
  """

  def __init__(self, config: ConfigDict, stream: 'TaskStream'):
    """Takes an expanded config and the `TaskStream` of new pictures."""
    replay, size = config.replay, config.per_device_batch_size
    self.store = replay_store.Store.empty()
    self._stream, self._config, self._replay = stream, config, replay
    self._tasks_stored = 0
    self._num_devices = stream.global_batch_size // size
    self._num_new = size
    self._num_draws = (replay.batch_size or size) * len(
        replay_rows.kinds(config))

  def __getattr__(self, name: str) -> Any:
    return getattr(self._stream, name)

  def batches(self, task: Task, start_step: int = 0
              ) -> Iterator[task_stream.Batch]:
    """Training batches of this host, from `start_step` of the task on.

    Returns:
      Iterator of dicts as from `TaskStream.batches`, with more rows and, for
      `steps.make_train_step`, float32 'mask', 'weight' and 'replayed'; with
      `replay.masked` bool 'class_mask' [rows, C], the classes of the task that
      a picture came with; with `replay.dark_weight` float32 'dark', 1 where
      stored logits are compared, and int32 'slot' of the store: the one that a
      replayed picture comes from and a new one goes to (`capacity`: none).
    """
    if not self._replay.capacity:
      return self._stream.batches(task, start_step)
    rows = self._rows(task)
    return self._load(rows.mixed, self.schedule(task).num_steps, start_step)

  def review_schedule(self, task: Task) -> order.Schedule:
    """Steps of the review after a task: whole passes over the store.

    In a pass every picture comes once, but for the last partial batch; a store
    smaller than a batch fills one by repeating itself.
    """
    epochs = self._replay.review_epochs
    per_epoch = max(1, self._sizes[task.index] // self._rows_per_step)
    return order.Schedule(per_epoch, epochs, per_epoch * epochs)

  def review_batches(self, task: Task, start_step: int = 0
                     ) -> Iterator[task_stream.Batch]:
    """Batches as from `batches`, all rows from the store after the task."""
    self.end_task(task)
    schedule = self.review_schedule(task)
    rows = self._rows(task)

    def row_of_step(step, device, i):
      place = device * self._rows_per_device + i
      return rows.review(schedule, step, place, self._rows_per_step)

    return self._load(row_of_step, schedule.num_steps, start_step)

  def end_task(self, task: Task) -> None:
    """Puts the task's pictures before the store; a second time does nothing."""
    if not self._replay.capacity or task.index < self._tasks_stored:
      return
    self.store = self._after(self.store, task, self.examples.native)
    self._tasks_stored = task.index + 1

  def arrays(self) -> dict[str, np.ndarray]:
    """The store, for a checkpoint; nothing without replay."""
    if not self._replay.capacity:
      return {}
    return {_PREFIX + k: v for k, v in self.store.arrays().items()} | {
        _PREFIX + 'tasks_stored': np.array(self._tasks_stored)}

  def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
    """Takes back what `arrays` gave, among other things."""
    stored = {k.removeprefix(_PREFIX): v for k, v in arrays.items()
              if k.startswith(_PREFIX)}
    if stored:
      self.store = replay_store.Store.restored(stored)
      self._tasks_stored = int(stored['tasks_stored'])

  @property
  def rows_per_step(self) -> int:
    """New and replayed ones, over all devices and hosts."""
    return (self._rows_per_step if self._replay.capacity else
            self.global_batch_size)

  @property
  def _rows_per_device(self) -> int:
    return self._num_new + self._num_draws

  @property
  def _rows_per_step(self) -> int:
    """Over all hosts."""
    return self._num_devices * self._rows_per_device

  @functools.cached_property
  def _sizes(self) -> list[int]:
    """How many pictures the store will hold after each task."""
    store, sizes = replay_store.Store.empty(), []
    for task in self.tasks:
      store = self._after(store, task, read=None)
      sizes.append(len(store))
    return sizes

  def _rows(self, task: Task) -> replay_rows.Rows:
    offered = self._offered(task)
    return replay_rows.Rows(
        self._config, self._stream, task, store=self.store, offered=offered,
        change=self._changes(self.store, offered),
        num_devices=self._num_devices)

  def _offered(self, task: Task) -> replay_store.Offered:
    rows = self._stream.train_rows(task)
    return replay_store.Offered(rows, self.examples.columns(rows), task.index)

  def _changes(self, store: replay_store.Store, offered: replay_store.Offered
               ) -> replay_store.Change:
    return replay_store.changes(
        self._replay.policy, store, offered, capacity=self._replay.capacity,
        seed=self._config.seed)

  def _after(self, store: replay_store.Store, task: Task,
             read: Callable[[int], np.ndarray] | None) -> replay_store.Store:
    offered = self._offered(task)
    take = self._changes(store, offered)(len(offered.rows))
    return store.taking(take, offered, read)

  def _load(self, row_of_step: Callable[[int, int, int], task_stream.Row],
            num_steps: int, start_step: int) -> Iterator[task_stream.Batch]:
    """Batches of this host's devices from `row_of_step(step, device, i)`."""
    rows = self._rows_per_step // self.process_count
    first = self.process_index * (self._num_devices // self.process_count)

    def read(number):
      step, place = divmod(number, rows)
      device, i = divmod(place, self._rows_per_device)
      return row_of_step(start_step + step, first + device, i)

    return loader.load(read, num_steps - start_step, batch_size=rows,
                       num_threads=self._config.data_threads)
