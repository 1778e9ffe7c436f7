# SPDX-License-Identifier: Apache-2.0
"""Slots that tasks own one after the other, and anchors that fill them."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Slots:
  """Which anchors and convolutions belong to which task.

  Attributes:
    counts: slots of each task, in the order of the tasks.
  """

  counts: tuple[int, ...]

  @property
  def total(self) -> int:
    """G, slots of all tasks."""
    return sum(self.counts)

  def span(self, task: int) -> slice:
    """Slots of a task; none beyond the last task."""
    return slice(sum(self.counts[:task]), sum(self.counts[:task + 1]))

  @property
  def owner(self) -> np.ndarray:
    """Task of each slot, int32 [G]."""
    return np.repeat(np.arange(len(self.counts), dtype=np.int32), self.counts)


def orthonormal(rng: np.random.Generator, known: np.ndarray, count: int
                ) -> np.ndarray:
  """Random unit rows [count, m], orthogonal to `known` and to each other.

  Standard normal draws through Gram-Schmidt, twice for rounding; `known` are
  orthonormal rows or zeros.
  """
  rows = np.asarray(known, np.float64)
  for _ in range(count):
    row = rng.normal(size=rows.shape[1])
    for _ in range(2):
      row = row - (rows @ row) @ rows
      row = row / np.linalg.norm(row)
    rows = np.concatenate([rows, row[None]])
  return rows[len(rows) - count:].astype(np.float32)
