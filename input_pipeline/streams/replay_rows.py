# SPDX-License-Identifier: Apache-2.0
"""One row of a training batch with replay, as a pure function."""

from collections.abc import Sequence
import functools
from typing import TYPE_CHECKING

from ml_collections import ConfigDict
import numpy as np

from promptcl.input_pipeline.streams import order
from promptcl.input_pipeline.streams import replay_store
from promptcl.input_pipeline.streams import task_stream

if TYPE_CHECKING:
  from promptcl.input_pipeline.pipeline import TaskStream


class Rows:
  """Rows of one task: its new pictures, replayed ones, or a review.

  Sees the store of the task's start (of its end, for the review) whatever
  happens to the stream's afterwards.  Any thread may ask for any row.
  """

  def __init__(self, config: ConfigDict, stream: 'TaskStream',
               task: task_stream.Task, *, store: replay_store.Store,
               offered: replay_store.Offered, change: replay_store.Change,
               num_devices: int):
    """Takes what `replay_store.changes` took and gave; devices of all hosts."""
    self._config, self._stream, self._task = config, stream, task
    self._store, self._rows, self._read = store, offered.rows, stream.reader(
        task)
    self._labels = np.concatenate([store.labels, offered.labels])
    self._tasks = np.append(
        store.tasks, np.full(len(offered.rows), task.index, np.int32))
    self._num_new = config.per_device_batch_size
    self._num_devices, self._kinds = num_devices, kinds(config)
    self._num_drawn = config.replay.batch_size or self._num_new
    # Every row of a step asks for these; threads work on a few steps at once.
    self._content = functools.lru_cache(maxsize=8)(
        lambda step: change(step * stream.global_batch_size))
    self._draw = functools.lru_cache(maxsize=16)(self._new_draw)
    self._pass = functools.lru_cache(maxsize=2)(self._new_pass)
    self._targets = functools.lru_cache(maxsize=8)(self._new_targets)

  def mixed(self, step: int, device: int, i: int) -> task_stream.Row:
    """Row `i` of a device (of all hosts): B new ones, then the replayed."""
    if i < self._num_new:
      return self._new(step, device * self._num_new + i)
    which, place = divmod(i - self._num_new, self._num_drawn)
    content, kind = self._content(step), self._kinds[which]
    if not len(content):
      return self._padding()
    place += device * self._num_drawn
    slot = self._draw(step, which)[place]
    # The row's number among all of the step, however many devices there are.
    number = which * self._num_devices * self._num_drawn + place
    weight = 0 if 'dark' in self._kinds else self._config.replay.label_weight
    return self._replayed(content[slot], [step, number], weight=weight,
                          dark=kind == 'dark', slot=slot)

  def review(self, schedule: order.Schedule, step: int, place: int,
             per_step: int) -> task_stream.Row:
    """Row `place` of the `per_step` ones of a step, all from the store."""
    epoch, step_of_epoch = divmod(step, schedule.steps_per_epoch)
    slot = self._pass(epoch, schedule.steps_per_epoch * per_step)[
        step_of_epoch * per_step + place]
    seed = [self._stream.schedule(self._task).num_steps + step, place]
    return self._replayed(slot, seed, weight=1, dark=False)

  def _new(self, step: int, number: int) -> task_stream.Row:
    place = step * self._stream.global_batch_size + number
    slot = self._targets(step)[number] if 'dark' in self._kinds else None
    return self._row(self._read(place), task=self._task.index, slot=slot)

  def _replayed(self, entry: int, seed: Sequence[int], **options: int
                ) -> task_stream.Row:
    """A picture, by its place in (slots at the start, the task's stream)."""
    old = entry < len(self._store)
    image = self._store.images[entry] if old else (
        self._stream.examples.native(self._rows[entry - len(self._store)]))
    seed = [self._config.seed, self._task.index, *map(int, seed),
            replay_store.AUGMENT]
    example = {'image': self._stream.examples.augment(
                   image, self._labels[entry], seed),
               'label': self._labels[entry]}
    return self._row(example, replayed=1, task=self._tasks[entry], **options)

  def _padding(self) -> task_stream.Row:
    size = self._config.input_size
    example = {'image': np.zeros((size, size, 3), np.float32),
               'label': np.int32(0)}
    return self._row(example, mask=0, weight=0, replayed=1,
                     task=self._task.index)

  def _row(self, example: task_stream.Row, *, task: int, mask: int = 1,
           weight: int = 1, replayed: int = 0, dark: bool = False,
           slot: int | None = None) -> task_stream.Row:
    row = {**example, 'mask': np.float32(mask), 'weight': np.float32(weight),
           'replayed': np.float32(replayed)}
    if self._config.replay.masked:
      row['class_mask'] = self._stream.tasks[task].class_mask
    if 'dark' in self._kinds:
      slot = self._config.replay.capacity if slot is None else slot
      row |= {'dark': np.float32(dark), 'slot': np.int32(slot)}
    return row

  def _new_draw(self, step: int, which: int) -> np.ndarray:
    """Slots that all devices together replay, for one kind of loss."""
    rng = np.random.default_rng([self._config.seed, self._task.index, step,
                                 which, replay_store.DRAW])
    return cycle(rng, len(self._content(step)),
                 self._num_devices * self._num_drawn)

  def _new_pass(self, epoch: int, count: int) -> np.ndarray:
    rng = np.random.default_rng([self._config.seed, self._task.index, epoch, 0,
                                 replay_store.REVIEW])
    return cycle(rng, len(self._store), count)

  def _new_targets(self, step: int) -> np.ndarray:
    """Slot that each new picture of a step enters; `capacity`: none."""
    size = self._stream.global_batch_size
    first = len(self._store) + step * size
    content = self._content(step + 1)
    slots = np.flatnonzero(content >= first)
    targets = np.full(size, self._config.replay.capacity)
    targets[content[slots] - first] = slots
    return targets


def kinds(config: ConfigDict) -> tuple[str, ...]:
  """What pictures are drawn for: separately for each loss, as DER++ does.

  `label`: cross-entropy.  `dark`: distance to the stored logits.
  """
  replay = config.replay
  if not replay.dark_weight:
    return ('label',)
  return ('dark', 'label') if replay.label_weight else ('dark',)


def cycle(rng: np.random.Generator, size: int, count: int) -> np.ndarray:
  """`count` of `size` things in random order; none comes again before all."""
  rounds = -(-count // size)
  return np.concatenate([rng.permutation(size) for _ in range(rounds)])[:count]
