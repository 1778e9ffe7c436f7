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
"""What the learner meets, and in which order: classes split into tasks.

A task is a list of example indices; nothing here touches an image. Classes are
numbered twice: by the data set (original labels) and by the head, whose column
is a class's place in the class order. Everything but `Task.classes` and
`class_order` speaks of head columns.
"""

import dataclasses

import numpy as np

# Width of the Gaussian that spreads a class over tasks, in steps (official).
SCHEDULE_WIDTH = 50


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
  """One task of the stream.

  Attributes:
    index: place in the stream, from 0.
    classes: original labels of the classes that appear.
    class_mask: bool [C] over head columns.
    train_indices: int64 [num_examples], rows of the training split.
    num_examples: training images.
    eval_sets: numbers of the evaluation sets scored after this task.
  """

  index: int
  classes: tuple[int, ...]
  class_mask: np.ndarray
  train_indices: np.ndarray
  num_examples: int
  eval_sets: tuple[int, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class EvalSet:
  """Test images that are scored together.

  Attributes:
    index: place in `TaskStream.eval_sets`.
    name: how reports call it, for instance 'task_1' (counted from 1).
    class_mask: bool [C] over head columns, for task-incremental scores.
    indices: int64 [num_examples], rows of the test split.
    num_examples: test images.
  """

  index: int
  name: str
  class_mask: np.ndarray
  indices: np.ndarray
  num_examples: int


def class_order(config, num_classes):
  """Original label of each head column.

  Args:
    config: reads `continual.{num_tasks, num_classes_per_task, rand_seed}` and
      `reverse_task`.
    num_classes: of the data set.

  Returns:
    int64 [C]: ascending for `rand_seed` -1, otherwise one permutation drawn
    from that seed. With `reverse_task` the tasks come last first.

  Raises:
    ValueError: the classes do not divide into the tasks.
  """
  continual = config.continual
  tasks, width = continual.num_tasks, continual.num_classes_per_task
  if min(tasks, width) < 1 or tasks * width != num_classes:
    raise ValueError(
        f'{num_classes} classes of {config.dataset} do not divide into '
        f'continual.num_tasks={tasks} tasks of '
        f'continual.num_classes_per_task={width} classes')
  order = np.arange(num_classes)
  if continual.rand_seed >= 0:
    order = np.random.default_rng(continual.rand_seed).permutation(num_classes)
  if config.reverse_task:
    order = order.reshape(tasks, width)[::-1].reshape(-1)
  return order


def class_incremental(config, dataset):
  """Splits a data set into tasks of equally many classes.

  Args:
    config: see `class_order`, and `subsample_rate`: above 0, only the first
      that many percent of each split are used.
    dataset: a `datasets.Dataset`; only its labels are read.

  Returns:
    (tasks, eval_sets): one evaluation set per task; task t is followed by the
    evaluation of sets 0 to t.

  Raises:
    ValueError: classes that do not divide, or a task without images.
  """
  order = class_order(config, dataset.num_classes)
  groups = order.reshape(config.continual.num_tasks, -1)
  tasks, eval_sets = [], []
  for t, classes in enumerate(groups):
    mask = np.zeros(order.size, bool)
    mask[t * classes.size:(t + 1) * classes.size] = True
    train, test = (
        _select(split, name, classes, t, config)
        for split, name in ((dataset.train, 'train'), (dataset.test, 'test')))
    tasks.append(Task(t, tuple(classes.tolist()), mask, train, train.size,
                      tuple(range(t + 1))))
    eval_sets.append(EvalSet(t, f'task_{t + 1}', mask, test, test.size))
  return tuple(tasks), tuple(eval_sets)


def percent(rate, count):
  """Length of the first `rate` percent, rounded as TFDS slices a split."""
  return count if rate <= 0 else min(count, round(rate * count / 100))


def gaussian_schedule(*, num_tasks, num_classes, step_per_task, key):
  """Which classes the tasks of Gaussian scheduled CIFAR-100 hold.

  Task t stands at x = t * s, class c peaks at e // 2 + c * e where e = T * s
  // classes; a class is present with probability exp(-(x - peak)^2 / (2 *
  50^2)), and a task that came out empty is drawn again (parity notes, 5.10).

  Args:
    num_tasks: T.
    num_classes: C.
    step_per_task: s; negative values count backwards, as in the original,
      whose config leads to -1.
    key: JAX key data, uint32 [2], as `jax.random.PRNGKey` makes it. The
      official pipeline passes `jax.random.split(PRNGKey(seed))[1]`.

  Returns:
    probability: float32 [T, C]; peaks: int32 [C]; present: int32 [T, C] of 0
    and 1, equal to the official draws (bits of JAX before 0.5).
  """
  spacing = num_tasks * step_per_task // num_classes
  peaks = spacing // 2 + spacing * np.arange(num_classes)
  distance = step_per_task * np.arange(num_tasks)[:, None] - peaks
  probability = np.exp(-distance**2 / (2 * SCHEDULE_WIDTH**2))
  probability = probability.astype(np.float32)
  present = _draw_present(probability, key)
  return probability, peaks.astype(np.int32), present


def _draw_present(probability, key):
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


def _select(source, split, classes, task, config):
  """Rows of a split whose label is in `classes`, ascending."""
  labels = source.labels[:percent(config.subsample_rate, len(source))]
  rows = np.flatnonzero(np.isin(labels, classes))
  if not rows.size:
    raise ValueError(
        f'task {task + 1} of {config.dataset} has no {split} images: none of '
        f'the classes {classes.tolist()} is in the {labels.size} examples '
        f'used (subsample_rate={config.subsample_rate})')
  return rows
