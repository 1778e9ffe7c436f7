# SPDX-License-Identifier: Apache-2.0
"""Gaussian scheduled classes: a task-agnostic stream of overlapping episodes.

Classes come and go gradually; each of the (usually 200) episodes is a task of
the stream whose classes are drawn, and one test set serves all (protocol notes,
4.8). Two readings exist and are not comparable:

  jax_released   the original's config: schedule in steps of 1 per episode, each
                 episode trains `num_epochs` over all images of its classes
  paper          `continual.gaussian_steps` batches per episode
"""

from collections.abc import Iterator
import dataclasses
from typing import TYPE_CHECKING

from ml_collections import ConfigDict
import numpy as np

from promptcl.input_pipeline.read.base import Dataset
from promptcl.input_pipeline.streams import class_orders
from promptcl.input_pipeline.streams import task_stream

if TYPE_CHECKING:
  import jax

# Deviation of the curve that spreads a class over episodes, in steps.
WIDTH = 50
# What the original's config, which leaves the number of steps open, leads to.
_RELEASED_STEP = -1


class Rows:
  """Rows of some classes, without a list of their own.

  Used like an int64 array [N]: `len`, indexing, iteration, `np.asarray`. Class
  after class, each in stored order. Only a single index needs no memory.
  """

  def __init__(self, by_class: np.ndarray, starts: np.ndarray,
               columns: np.ndarray):
    """Takes what `rows_by_class` gives and the columns that are wanted."""
    self._by_class = by_class
    self._spans = tuple(zip(starts[columns], starts[columns + 1], strict=True))
    self._ends = np.cumsum(starts[columns + 1] - starts[columns])
    self._shifts = starts[columns + 1] - self._ends

  def __len__(self) -> int:
    return int(self._ends[-1])

  def __getitem__(self, place: int | slice | np.ndarray
                  ) -> np.ndarray | np.int64:
    if not isinstance(place, int | np.integer) or place < 0:
      return np.asarray(self)[place]
    # Past the end, `_shifts` raises the IndexError of a sequence.
    part = np.searchsorted(self._ends, place, side='right')
    return self._by_class[place + self._shifts[part]]

  def __iter__(self) -> Iterator[np.int64]:
    return iter(np.asarray(self))

  def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None
                ) -> np.ndarray:
    rows = np.concatenate([self._by_class[a:b] for a, b in self._spans])
    return rows if dtype is None else rows.astype(dtype)


def rows_by_class(columns: np.ndarray, num_classes: int
                  ) -> tuple[np.ndarray, np.ndarray]:
  """Rows sorted by head column.

  Args:
    columns: int [N], head column of each row.
    num_classes: C.

  Returns:
    (int64 [N], int64 [C + 1]): rows, and where those of each column start.
  """
  counts = np.bincount(columns, minlength=num_classes)
  return (np.argsort(columns, kind='stable'),
          np.concatenate([[0], np.cumsum(counts)]))


def plan(config: ConfigDict, dataset: Dataset) -> task_stream.Plan:
  """Episodes of a data set, and its whole test split as the one test set.

  Args:
    config: reads `seed`, `gaussian_mode`, `subsample_rate`, `reverse_task`
      and `continual.{num_tasks, gaussian_steps, class_order, rand_seed}`.
    dataset: a `base.Dataset`; only its labels are read.

  Returns:
    A `task_stream.Plan` whose tasks share one list of rows.

  Raises:
    ValueError: fewer steps than classes, or an episode without images.
  """
  num_classes = dataset.num_classes
  order = class_orders.class_order(config, num_classes)
  if config.reverse_task:
    order = order[::-1].copy()
  paper = config.gaussian_mode == 'paper'
  step = config.continual.gaussian_steps if paper else _RELEASED_STEP
  *_, present = schedule(
      num_tasks=config.continual.num_tasks, num_classes=num_classes,
      step_per_task=step, key=official_key(config.seed))
  masks = present.astype(bool)
  train = _episodes(config, dataset, order, masks)
  test = np.arange(len(task_stream.used(config, dataset.test.labels)))
  made = task_stream.make_plan(dataset, order, masks=list(masks), train=train,
                               test=[test], names=['all'])
  return dataclasses.replace(made, steps_per_task=step) if paper else made


def official_key(seed: int) -> 'jax.Array':
  """The key that the original's pipeline draws its schedule from."""
  import jax  # pylint: disable=g-import-not-at-top
  with jax.threefry_partitionable(False):
    return jax.random.split(jax.random.PRNGKey(seed))[1]


def schedule(*, num_tasks: int, num_classes: int, step_per_task: int,
             key: 'jax.Array') -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Which classes the tasks of Gaussian scheduled CIFAR-100 hold.

  Task t stands at x = t * s, class c peaks at e // 2 + c * e where e = T * s
  // classes; a class is present with probability exp(-(x - peak)^2 / (2 *
  50^2)), and a task that came out empty is drawn again (parity notes, 5.10).

  Args:
    num_tasks: T.
    num_classes: C.
    step_per_task: s; negative values count backwards, as in the original,
      whose config leads to -1.
    key: JAX key data, uint32 [2], as `official_key` makes it.

  Returns:
    probability: float32 [T, C]; peaks: int32 [C]; present: int32 [T, C] of 0
    and 1, equal to the official draws (bits of JAX before 0.5).

  Raises:
    ValueError: fewer steps than classes, which would peak all at once.
  """
  spacing = num_tasks * step_per_task // num_classes
  if not spacing:
    raise ValueError(
        f'the Gaussian schedule of continual.num_tasks={num_tasks} episodes is '
        f'{num_tasks * step_per_task} steps long, too short for {num_classes} '
        'classes; raise num_tasks')
  peaks = spacing // 2 + spacing * np.arange(num_classes)
  distance = step_per_task * np.arange(num_tasks)[:, None] - peaks
  probability = np.exp(-distance**2 / (2 * WIDTH**2)).astype(np.float32)
  return probability, peaks.astype(np.int32), _draw_present(probability, key)


def _draw_present(probability: np.ndarray, key: 'jax.Array') -> np.ndarray:
  """Independent 0/1 draws, int32 [T, C], no row empty."""
  import jax  # pylint: disable=g-import-not-at-top

  def draw(key, _):
    sample_key, key = jax.random.split(key)
    return key, jax.random.uniform(sample_key)

  num_tasks, num_classes = probability.shape
  present = np.zeros(probability.shape, np.int32)
  # Only here: the setting changes every random number of the process.
  with jax.threefry_partitionable(False):
    scan = jax.jit(lambda k: jax.lax.scan(draw, k, length=num_classes))
    for t in range(num_tasks):
      while not present[t].any():
        key, uniform = scan(key)
        present[t] = np.asarray(uniform) < probability[t]
  return present


def _episodes(config: ConfigDict, dataset: Dataset, order: np.ndarray,
              masks: np.ndarray) -> list[Rows]:
  """`Rows` of each episode."""
  labels = task_stream.used(config, dataset.train.labels)
  by_class = rows_by_class(np.argsort(order)[labels], order.size)
  episodes = [Rows(*by_class, np.flatnonzero(mask)) for mask in masks]
  for t, rows in enumerate(episodes):
    if not len(rows):
      raise ValueError(
          f'episode {t + 1} of {config.dataset} has no train images: none of '
          f'the classes {order[masks[t]].tolist()} is in the {labels.size} '
          f'examples used (subsample_rate={config.subsample_rate})')
  return episodes
