# SPDX-License-Identifier: Apache-2.0
"""Scikit-learn's handwritten digits: real, small, and always there.

  dataset = digits.load()
"""

from collections.abc import Sequence
import hashlib
import importlib.util
import pathlib

import numpy as np

from promptcl.input_pipeline.read import base
from promptcl.input_pipeline.read import sources

NAME = 'digits'
_NUM_CLASSES = 10
_TEST_SHARE = 0.2
# The copy in scikit-learn has grey levels 0 to 16.
_GREY_LEVELS = 16
# Of all training pictures, in [0, 1].
_MEAN, _STD = 0.3055, 0.3759


def load() -> base.Dataset:
  """1797 digits of 8 x 8 pixels, about 80 % train and 20 % test per class.

  Grey levels are spread over 0..255. Pictures stay 8 x 8; enlarging them is
  the pipeline's work. The division is drawn once from a fixed seed, class by
  class, and does not depend on any configuration.
  """
  pictures, labels = _stored()
  levels = np.rint(pictures * (255 / _GREY_LEVELS)).astype(np.uint8)
  is_test = _draw_test(labels)
  train, test = (
      _source(levels, labels, _in_stored_order(chosen, split))
      for split, chosen in (('train', ~is_test), ('test', is_test)))
  return base.Dataset(
      name=NAME, train=train, test=test, num_classes=_NUM_CLASSES,
      class_names=tuple(map(str, range(_NUM_CLASSES))),
      mean=np.float32([_MEAN] * 3), std=np.float32([_STD] * 3))


def _stored() -> tuple[np.ndarray, np.ndarray]:
  """Grey levels float [N, 8, 8] and labels int [N] as scikit-learn has them.

  Its file is read without importing it, which takes as long as all else that
  happens before a run's first step.
  """
  package = importlib.util.find_spec('sklearn').submodule_search_locations[0]
  rows = np.loadtxt(
      pathlib.Path(package) / 'datasets/data/digits.csv.gz', delimiter=',')
  return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(int)


def _draw_test(labels: np.ndarray) -> np.ndarray:
  """A fifth of every class, as bool [N]."""
  rng = np.random.default_rng(0)
  is_test = np.zeros(labels.size, bool)
  for label in range(_NUM_CLASSES):
    rows = rng.permutation(np.flatnonzero(labels == label))
    is_test[rows[:round(_TEST_SHARE * rows.size)]] = True
  return is_test


def _in_stored_order(chosen: np.ndarray, split: str) -> list[int]:
  """The rows of a split as TFDS would store them: by their salted MD5.

  Results of runs depend on that order, and it mixes the classes.
  """
  def digest(row):
    salted = f'{split}{row}'.encode()
    return hashlib.md5(salted, usedforsecurity=False).digest()

  return sorted(np.flatnonzero(chosen), key=digest)


def _source(levels: np.ndarray, labels: np.ndarray, rows: Sequence[int]
            ) -> sources.ArraySource:
  return sources.ArraySource(levels[rows][..., None], labels[rows])
