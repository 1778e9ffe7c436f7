# SPDX-License-Identifier: Apache-2.0
"""What a data set is once it is open."""

import dataclasses
import types
from typing import Protocol

from ml_collections import ConfigDict
import numpy as np

from promptcl.input_pipeline.read import moments

# What opening a data set reads: `dataset`, `data_dir`, `manual_dir` and
# `split_files`.
Settings = ConfigDict | types.SimpleNamespace


class Source(Protocol):
  """Random access to the examples of one split.

  Attributes:
    labels: int32 [N].
    domains: int32 [N], or None for a data set without domains.
  """

  @property
  def labels(self) -> np.ndarray:
    ...

  @property
  def domains(self) -> np.ndarray | None:
    ...

  def __len__(self) -> int:
    ...

  def image(self, index: int) -> np.ndarray:
    """uint8 [h, w, 3] of one row; sizes may differ from row to row."""


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
  """An opened data set.

  Attributes:
    name: as configured.
    train: a source of training examples.
    test: likewise.
    num_classes: labels run from 0 to this, exclusive.
    class_names: one per label.
    mean: float32 [3], in [0, 1], of the training pictures; None where it is not
      known beforehand and for a sequence of data sets, see `statistics`.
    std: float32 [3] or None, likewise.
    domain_names: of the numbers in both sources' `domains`, or None.
    groups: the labels of each member of a sequence of data sets, or None.
    members: the data sets of a sequence, with labels of their own.
    notes: what its user should know, a line each.
  """

  name: str
  train: Source
  test: Source
  num_classes: int
  class_names: tuple[str, ...]
  mean: np.ndarray | None = None
  std: np.ndarray | None = None
  domain_names: tuple[str, ...] | None = None
  groups: tuple[tuple[int, ...], ...] | None = None
  members: tuple['Dataset', ...] = ()
  notes: tuple[str, ...] = ()

  def statistics(self) -> tuple[np.ndarray, np.ndarray]:
    """What an image of each label is normalised by: that of its own member.

    Returns:
      (mean, std): float32 [C, 3] each, for values in [0, 1]. Where they are
      not known they are measured, on `moments.SAMPLE` training pictures.
    """
    if self.members:
      parts = zip(*(m.statistics() for m in self.members), strict=True)
      return tuple(np.concatenate(part) for part in parts)
    known = self.mean is not None
    pair = (self.mean, self.std) if known else moments.of_source(self.train)
    return tuple(np.tile(x, (self.num_classes, 1)) for x in pair)
