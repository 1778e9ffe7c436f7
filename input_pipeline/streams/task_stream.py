# SPDX-License-Identifier: Apache-2.0
"""What the learner meets, and in which order: the parts of a stream.

A task is a list of example indices; nothing here touches an image. Classes are
numbered twice: by the data set (original labels) and by the head, whose column
is a class's place in the class order. Everything but `Task.classes` and
`Plan.class_order` speaks of head columns.
"""

from collections.abc import Sequence
import dataclasses

from ml_collections import ConfigDict
import numpy as np

from promptcl.input_pipeline.read import base

Row = dict[str, np.ndarray | np.generic]  # an example
Batch = dict[str, np.ndarray]  # examples, stacked


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
  """One task of the stream.

  Attributes:
    index: place in the stream, from 0.
    classes: original labels of the columns in `class_mask`, in their order.
    class_mask: bool [C] over head columns: what training may see.
    train_indices: rows of the training split, int64 [num_examples]; of a
      Gaussian stream, where 200 tasks overlap, something that is indexed and
      converted like that array but shares its memory (`gaussian.Rows`).
    num_examples: training images.
    eval_sets: numbers of the evaluation sets scored after this task; () when
      this task is not followed by an evaluation.
  """

  index: int
  classes: tuple[int, ...]
  class_mask: np.ndarray
  train_indices: np.ndarray | Sequence[int]
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


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
  """A data set as a stream of tasks.

  Attributes:
    tasks: tuple of `Task`.
    eval_sets: tuple of `EvalSet`; one per task, or a single one.
    class_order: int64 [C], original label of each head column.
    dataset: where images and labels come from; the one that was given unless
      its labels had to change.
    steps_per_task: how many steps a task has, or 0: as many as its epochs.
  """

  tasks: tuple[Task, ...]
  eval_sets: tuple[EvalSet, ...]
  class_order: np.ndarray
  dataset: base.Dataset
  steps_per_task: int = 0


def make_plan(dataset: base.Dataset, order: np.ndarray, *,
              masks: Sequence[np.ndarray],
              train: Sequence[np.ndarray | Sequence[int]],
              test: Sequence[np.ndarray], names: Sequence[str]) -> Plan:
  """Puts tasks and evaluation sets together.

  Args:
    dataset: a `base.Dataset`.
    order: int64 [C], class order.
    masks: bool [C] of each task.
    train: rows of the training split of each task.
    test: rows of the test split of each evaluation set: one per task, scored
      together with those of all earlier tasks, or a single one.
    names: of the evaluation sets.

  Returns:
    A `Plan`; every task is followed by an evaluation.
  """
  single = len(test) == 1
  tasks = tuple(
      Task(t, tuple(order[mask].tolist()), mask, rows, len(rows),
           (0,) if single else tuple(range(t + 1)))
      for t, (mask, rows) in enumerate(zip(masks, train, strict=True)))
  if single:
    masks = [np.ones(order.size, bool)]
  eval_sets = tuple(
      EvalSet(i, name, mask, rows, len(rows))
      for i, (mask, rows, name) in enumerate(
          zip(masks, test, names, strict=True)))
  return Plan(tasks, eval_sets, order, dataset)


def percent(rate: float, count: int) -> int:
  """Length of the first `rate` percent, rounded as TFDS slices a split."""
  return count if rate <= 0 else min(count, round(rate * count / 100))


def used(config: ConfigDict, values: np.ndarray) -> np.ndarray:
  """The part of an array over a split that `config.subsample_rate` leaves."""
  return values[:percent(config.subsample_rate, len(values))]
