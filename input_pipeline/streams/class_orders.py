# SPDX-License-Identifier: Apache-2.0
"""Class orders of the family, and which classes each task adds.

A class order lists original labels, one per column of the head. Code bases
draw it by three different generators, so a seed means nothing without its rule
(protocol notes, 4.1):

  numpy          default_rng(seed).permutation; ours
  numpy_legacy   RandomState(seed).permutation; PILOT (1993), LibContinual (2)
  python         random.seed(seed), random.shuffle; CODA-Prompt (seeds from 1,
                 its seed 0 is ascending)
"""

import random

from ml_collections import ConfigDict
import numpy as np

from promptcl.input_pipeline.read.base import Dataset


def _numpy(seed: int, num_classes: int) -> np.ndarray:
  return np.random.default_rng(seed).permutation(num_classes)


def _numpy_legacy(seed: int, num_classes: int) -> np.ndarray:
  return np.random.RandomState(seed).permutation(num_classes)


def _python(seed: int, num_classes: int) -> np.ndarray:
  order = list(range(num_classes))
  random.Random(seed).shuffle(order)
  return np.array(order)


RULES = {'numpy': _numpy, 'numpy_legacy': _numpy_legacy, 'python': _python}


def class_order(config: ConfigDict, num_classes: int) -> np.ndarray:
  """Original label of each head column, before `reverse_task`.

  Args:
    config: reads `continual.{class_order, rand_seed, order_rule}`.
    num_classes: C, of the data set.

  Returns:
    int64 [C]: as listed, drawn from `rand_seed`, or ascending when that is -1.

  Raises:
    ValueError: the list is not a permutation of the labels.
  """
  if config.continual.class_order:
    return _listed(config, num_classes)
  return _drawn(config, num_classes)


def class_groups(config: ConfigDict, dataset: Dataset) -> list[np.ndarray]:
  """Original labels that each task adds, in the order of head columns.

  Args:
    config: reads `reverse_task` (tasks come last first), `continual.scenario`
      and what `class_order` and `task_sizes` read. In scenario 'dataset' a task
      is a member of the sequence; `continual.rand_seed` draws their order.
    dataset: a `base.Dataset`.

  Returns:
    List of int64 arrays, one per task; together they are a permutation.

  Raises:
    ValueError: classes that do not divide into tasks, no sequence of data sets.
  """
  if config.continual.scenario == 'dataset':
    groups = _members(config, dataset)
  else:
    sizes = task_sizes(config, dataset.num_classes)
    order = class_order(config, dataset.num_classes)
    groups = np.split(order, np.cumsum(sizes)[:-1])
  return groups[::-1] if config.reverse_task else groups


def task_sizes(config: ConfigDict, num_classes: int) -> list[int]:
  """How many classes each task adds.

  Args:
    config: with `continual.init_cls` 0, `num_tasks` tasks of
      `num_classes_per_task` classes; otherwise a first task of `init_cls` and
      then `inc_cls` each, the last one with what remains.
    num_classes: C, of the data set.

  Returns:
    List of ints that sum to C; with `init_cls`, of length
    1 + ceil((C - init_cls) / inc_cls).

  Raises:
    ValueError: the classes do not divide.
  """
  continual = config.continual
  first, step = continual.init_cls, continual.inc_cls
  if first:
    if first > num_classes:
      raise ValueError(
          f'continual.init_cls={first} is more than the {num_classes} classes '
          f'of {config.dataset}')
    starts = [0, *range(first, num_classes, step), num_classes]
    return np.diff(starts).tolist()
  tasks, width = continual.num_tasks, continual.num_classes_per_task
  if min(tasks, width) < 1 or tasks * width != num_classes:
    raise ValueError(
        f'{num_classes} classes of {config.dataset} do not divide into '
        f'continual.num_tasks={tasks} tasks of '
        f'continual.num_classes_per_task={width} classes (unequal tasks: set '
        'continual.init_cls and inc_cls)')
  return [width] * tasks


def _drawn(config: ConfigDict, count: int) -> np.ndarray:
  """int64 [count]: drawn from `rand_seed`, or ascending when that is -1."""
  continual = config.continual
  if continual.rand_seed < 0:
    return np.arange(count)
  return RULES[continual.order_rule](continual.rand_seed, count)


def _listed(config: ConfigDict, num_classes: int) -> np.ndarray:
  listed = config.continual.class_order
  missing = sorted(set(range(num_classes)) - set(listed))
  if missing or len(listed) != num_classes:
    raise ValueError(
        f'continual.class_order is not a permutation of the {num_classes} '
        f'labels of {config.dataset}: it has {len(listed)} entries and lacks '
        f'{missing[:5] or "none"}{" and more" if len(missing) > 5 else ""}')
  return np.array(listed, np.int64)


def _members(config: ConfigDict, dataset: Dataset) -> list[np.ndarray]:
  """Labels of each data set of a sequence."""
  if dataset.groups is None:
    raise ValueError(
        f"continual.scenario='dataset' needs a sequence of data sets, but "
        f'{config.dataset} is a single one; join several by commas in '
        'config.dataset, or use 5datasets')
  return [np.array(dataset.groups[place], np.int64)
          for place in _drawn(config, len(dataset.groups))]
