# SPDX-License-Identifier: Apache-2.0
"""From a configuration and a data set to the tasks of a stream.

    planned = plan(config, dataset)        # tasks, evaluation sets, class order
    upper_bound = joint(planned, config)   # the same as one task

`continual.scenario` says what a task adds: new classes, new classes that are a
whole data set of their own, or a new domain of the same classes. A Gaussian
schedule replaces them by overlapping episodes.
"""

import dataclasses

from ml_collections import ConfigDict
import numpy as np

from promptcl.input_pipeline.read.base import Dataset
from promptcl.input_pipeline.streams import class_orders
from promptcl.input_pipeline.streams import domains
from promptcl.input_pipeline.streams import gaussian
from promptcl.input_pipeline.streams import task_stream

# Last word of a seed that shuffles an evaluation set; see `examples`.
_SHUFFLE = 2
# Episodes between two evaluations where the config leaves it open.
_GAUSSIAN_EVAL_EVERY = 10


def plan(config: ConfigDict, dataset: Dataset) -> task_stream.Plan:
  """Splits a data set into tasks.

  Args:
    config: reads `continual`, `reverse_task`, `gaussian_schedule`,
      `gaussian_mode`, `subsample_rate`, `eval_order` and `seed`.
    dataset: a `base.Dataset`; no image is read.

  Returns:
    A `task_stream.Plan`.

  Raises:
    ValueError: settings that do not fit each other or the data, in one line.
  """
  if config.gaussian_schedule:
    planned = gaussian.plan(config, dataset)
  elif config.continual.scenario == 'domain':
    planned = domains.plan(config, dataset)
  else:
    planned = class_incremental(config, dataset)
  return dataclasses.replace(
      planned, tasks=_thinned(config, planned.tasks),
      eval_sets=_ordered(config, planned.eval_sets))


def joint(config: ConfigDict, planned: task_stream.Plan) -> task_stream.Plan:
  """The same images as one task: training on everything, the upper bound.

  Args:
    config: that `planned` was made with.
    planned: a `task_stream.Plan`.

  Returns:
    A `task_stream.Plan` of one task, all classes and the same evaluation sets,
    each scored after it; its steps follow from the epochs.
  """
  rows = np.arange(len(task_stream.used(config, planned.dataset.train.labels)))
  order = planned.class_order
  task = task_stream.Task(
      index=0, classes=tuple(order.tolist()),
      class_mask=np.ones(order.size, bool), train_indices=rows,
      num_examples=rows.size, eval_sets=tuple(range(len(planned.eval_sets))))
  return dataclasses.replace(planned, tasks=(task,), steps_per_task=0)


def class_incremental(config: ConfigDict, dataset: Dataset) -> task_stream.Plan:
  """Tasks of new classes.

  Args:
    config: see `class_orders.class_groups`, and `subsample_rate`: above 0, only
      the first that many percent of each split are used.
    dataset: a `base.Dataset`; only its labels are read.

  Returns:
    A `task_stream.Plan`: one evaluation set per task; task t is followed by
    the evaluation of sets 0 to t.

  Raises:
    ValueError: classes that do not divide, or a task without images.
  """
  groups = class_orders.class_groups(config, dataset)
  order = np.concatenate(groups)
  ends = np.cumsum([group.size for group in groups])
  columns = np.arange(order.size)
  return task_stream.make_plan(
      dataset, order,
      masks=[(columns >= end - group.size) & (columns < end)
             for group, end in zip(groups, ends, strict=True)],
      train=[_rows(config, dataset, 'train', *task)
             for task in enumerate(groups)],
      test=[_rows(config, dataset, 'test', *task)
            for task in enumerate(groups)],
      names=[f'task_{t + 1}' for t in range(len(groups))])


def _rows(config: ConfigDict, dataset: Dataset, split: str, task: int,
          classes: np.ndarray) -> np.ndarray:
  """Rows of a split whose label is in `classes`, ascending."""
  labels = task_stream.used(config, getattr(dataset, split).labels)
  rows = np.flatnonzero(np.isin(labels, classes))
  if not rows.size:
    raise ValueError(
        f'task {task + 1} of {config.dataset} has no {split} images: none of '
        f'the classes {classes.tolist()} is in the {labels.size} examples '
        f'used (subsample_rate={config.subsample_rate})')
  return rows


def _thinned(config: ConfigDict, tasks: tuple[task_stream.Task, ...]
             ) -> tuple[task_stream.Task, ...]:
  """Leaves the evaluation to every n-th task, and to the last."""
  every = config.continual.eval_every_tasks or (
      _GAUSSIAN_EVAL_EVERY if config.gaussian_schedule else 1)
  return tuple(
      task if (task.index + 1) % every == 0 or task is tasks[-1]
      else dataclasses.replace(task, eval_sets=()) for task in tasks)


def _ordered(config: ConfigDict, eval_sets: tuple[task_stream.EvalSet, ...]
             ) -> tuple[task_stream.EvalSet, ...]:
  """Test images as stored, or each set in a seeded order of its own."""
  if config.eval_order == 'stored':
    return eval_sets
  return tuple(
      dataclasses.replace(e, indices=np.random.default_rng(
          [config.seed, e.index, 0, 0, _SHUFFLE]).permutation(e.indices))
      for e in eval_sets)
