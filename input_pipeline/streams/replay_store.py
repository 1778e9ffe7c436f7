# SPDX-License-Identifier: Apache-2.0
"""A store of past training pictures, and the rules for what it keeps.

  store = Store.empty()
  change = changes('reservoir', store, offered, capacity=1000, seed=42)
  take = change(num_places)               # who stands where by then
  store = store.taking(take, offered, task_index, read)

Which pictures are kept is a pure function of (seed, order of the stream): every
host computes it alike and holds the same store, so hosts never talk about it.
A store is never changed in place: threads that still read from an old one are
not disturbed.  Pictures are kept as the data set gives them (uint8, native
size), on every host and in every checkpoint: 1,000 of CIFAR's are 3 MB, but as
many photographs of half a megapixel are 1.5 GB.

The two rules:
  class_balanced  at a task's end; capacity // (classes seen so far) pictures of
                  each class, those of the lowest lot (a number drawn per
                  picture once and for all).  So old classes shrink, and a
                  class met in several tasks is an even sample of them all.
  reservoir       algorithm R (Vitter, 1985) over every picture of every step,
                  repeated epochs included, as the released code of DER does.
"""

from collections.abc import Callable, Mapping
import dataclasses

import numpy as np

POLICIES = ('class_balanced', 'reservoir')
# What random numbers are for: the last word of their seed.  Seeds of the rest
# of the pipeline end in something else, or are shorter (NumPy pads with 0).
LOTS, RESERVOIR, DRAW, REVIEW, AUGMENT = range(101, 106)

# How many places of the task's stream are over -> what each slot then holds,
# as an index into (slots at the task's start, places of the stream).
Change = Callable[[int], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Offered:
  """What a task puts before the store, in the order of its steps.

  Attributes:
    rows: int64 [N], rows of the training split; epochs repeat them.
    labels: int32 [N], head columns.
    task: index of the task.
  """

  rows: np.ndarray
  labels: np.ndarray
  task: int


@dataclasses.dataclass(frozen=True, eq=False)
class Store:
  """Pictures in slots 0 to n - 1.

  Attributes:
    images: n arrays uint8 [h, w, 3], each of its own size; empty in a store
      that only counts (see `taking`).
    rows: int64 [n], where in the training split each comes from.
    labels: int32 [n], head columns.
    tasks: int32 [n], the task that each came with.
    seen: pictures offered so far, with repetitions.
  """

  images: tuple[np.ndarray, ...]
  rows: np.ndarray
  labels: np.ndarray
  tasks: np.ndarray
  seen: int

  @classmethod
  def empty(cls) -> 'Store':
    return cls((), np.zeros(0, np.int64), np.zeros(0, np.int32),
               np.zeros(0, np.int32), 0)

  def __len__(self) -> int:
    return len(self.rows)

  def taking(self, take: np.ndarray, offered: Offered,
             read: Callable[[int], np.ndarray] | None) -> 'Store':
    """The store after a task.

    Args:
      take: what each slot holds now, from a `Change`.
      offered: the task's stream.
      read: row of the training split -> uint8 [h, w, 3]; None keeps no
        pictures, for those who only want to know how it will be filled.
    """
    def joined(old, new):
      return np.concatenate([old, new])[take].astype(old.dtype)

    rows = joined(self.rows, offered.rows)
    images = () if read is None else tuple(
        self.images[place] if place < len(self) else read(int(row))
        for place, row in zip(take, rows, strict=True))
    tasks = np.full(len(offered.rows), offered.task)
    return Store(images, rows, joined(self.labels, offered.labels),
                 joined(self.tasks, tasks), self.seen + len(offered.rows))

  def arrays(self) -> dict[str, np.ndarray]:
    """Everything, as plain arrays for a checkpoint; pixels end to end."""
    flat = [image.reshape(-1) for image in self.images]
    shapes = [image.shape for image in self.images]
    return {'pixels': np.concatenate([np.zeros(0, np.uint8), *flat]),
            'shapes': np.array(shapes, np.int32).reshape(-1, 3),
            'rows': self.rows, 'labels': self.labels, 'tasks': self.tasks,
            'seen': np.array(self.seen, np.int64)}

  @classmethod
  def restored(cls, arrays: Mapping[str, np.ndarray]) -> 'Store':
    """The store that `arrays` came from."""
    sizes = np.prod(arrays['shapes'], axis=1, dtype=np.int64)
    ends = np.cumsum(sizes)
    images = tuple(
        arrays['pixels'][end - size:end].reshape(shape) for size, end, shape
        in zip(sizes, ends, arrays['shapes'], strict=True))
    return cls(images, arrays['rows'], arrays['labels'], arrays['tasks'],
               int(arrays['seen']))


def changes(policy: str, store: Store, offered: Offered, *, capacity: int,
            seed: int) -> Change:
  """How a task changes what the store holds.

  Args:
    policy: one of `POLICIES`.
    store: at the task's start.
    offered: the task's stream.
    capacity: pictures at most.
    seed: of the run.
  """
  if policy == 'reservoir':
    rng = np.random.default_rng([seed, offered.task, 0, 0, RESERVOIR])
    slots = reservoir_slots(rng, len(offered.rows), seen=store.seen,
                            capacity=capacity)
    return lambda places: reservoir_take(slots[:places], len(store))
  rows = np.concatenate([store.rows, offered.rows])
  labels = np.concatenate([store.labels, offered.labels])
  # Further numbers of a generator do not change the first ones: a row keeps
  # its lot, whatever rows a task has.
  rng = np.random.default_rng([seed, 0, 0, 0, LOTS])
  lots = rng.random(rows.max() + 1)[rows]
  quota = capacity // len(np.unique(labels))
  final = balanced_take(rows, labels, lots, quota)
  return lambda places: (
      final if places == len(offered.rows) else np.arange(len(store)))


def reservoir_slots(rng: np.random.Generator, count: int, *, seen: int,
                    capacity: int) -> np.ndarray:
  """Algorithm R: int64 [count], slot that each next picture takes, -1: none.

  The picture with number n (from 0, over the whole run) takes slot n while
  there are free ones, and then slot j, uniform in 0 to n, if there is one.
  """
  numbers = seen + np.arange(count)
  drawn = rng.integers(0, numbers + 1)
  slots = np.where(numbers < capacity, numbers, drawn)
  return np.where(slots < capacity, slots, -1)


def reservoir_take(slots: np.ndarray, size: int) -> np.ndarray:
  """What each slot holds after `slots` were taken one by one.

  Args:
    slots: from `reservoir_slots`.
    size: slots in use before; they keep what they hold unless it is replaced.
  """
  places = np.flatnonzero(slots >= 0)
  take = np.arange(max(size, slots.max(initial=-1) + 1))
  take[slots[places]] = size + places  # of several, the last one stays
  return take


def balanced_take(rows: np.ndarray, labels: np.ndarray, lots: np.ndarray,
                  quota: int) -> np.ndarray:
  """Indices of at most `quota` of each class, those of the lowest lots.

  A row that occurs more than once counts once.  Ordered by class, then by lot.
  """
  first = np.unique(rows, return_index=True)[1]
  order = first[np.lexsort((lots[first], labels[first]))]
  ranked = labels[order]
  place = np.arange(len(order)) - np.searchsorted(ranked, ranked)
  return order[place < quota]
