# SPDX-License-Identifier: Apache-2.0
"""Whether a changed number in a recorded file would be noticed.

The comparisons of a finished report are made again, each time with another
recorded array changed where it stands.  A comparison sees that only if it was
given this array, so one that is read but not compared is found as well.
"""

from collections.abc import Iterator
import contextlib
import re
from typing import Any

import numpy as np

from tests.parity.fixture import Fixture
from tests.parity.report import Comparison
from tests.parity.report import difference
from tests.parity.report import Report

# Recorded inputs: what the numbers to compare were computed from.
_INPUTS = '|'.join((
    r'(case/?\w+/|small/)?params/.+', r'(google|pretrained)/.+',
    r'case/\w+/(init/.+|prompt_mask|pretrained_pos_embedding)',
    r'port_grid/pos_embedding', r'(.+/)?(memory_|test_|eval_)?images',
    'images_signed', r'(batch|train|eval)/(image|label)',
    r'task\d+/((batch|step|val)\d+/|test_)labels', r'\w+/accuracy',
    'step|steps_per_epoch|schedule|(num|warmup)_epochs',
    '(base|min)_learning_rate', r'\w+/(image|box|flip|crop_uint8_\d+)',
    r'c\d+/(S\d+|probe)', r'pca\d+/X', 'vocab_ids', 'class_tokens',
    'forward/mixed_task_ids', 'queries', 'means', 'variances',
    r'epoch\d+/(standard_normals|permutation)'))
# A distribution is compared with these.
_SAMPLES = r'box_samples/\w+'
# By how much floats are moved; scores of a randomised solver move further.
_OFF = 1e-3
_FAR_OFF = {r'port/task\d+/S_\w+': 0.1}


def unnoticed(fixture: Fixture, report: Report) -> list[str]:
  """Recorded results whose change lets all comparisons pass."""
  of_memory: dict[int, list[Comparison]] = {}
  for comparison in report.comparisons:
    for owner in _owners(comparison):
      of_memory.setdefault(owner, []).append(comparison)
  found = []
  for name in results(fixture, report):
    array = fixture[name]
    with _changed(array, changed(name, array)):
      if not any(_notices(comparison, array) for comparison
                 in of_memory.get(_owner(array), [])):
        found.append(name)
  return found


def results(fixture: Fixture, report: Report) -> list[str]:
  """Arrays with an element that are to be compared."""
  return [name for name in fixture.names
          if fixture[name].size and name not in report.notes
          and not re.fullmatch(f'{_INPUTS}|{_SAMPLES}', name)]


def changed(name: str, array: np.ndarray) -> np.ndarray:
  """The array with another number at every place."""
  if np.issubdtype(array.dtype, np.integer):
    return array + array.dtype.type(2)
  far = [off for pattern, off in _FAR_OFF.items()
         if re.fullmatch(pattern, name)]
  return array + array.dtype.type(*far or [_OFF])


def _notices(comparison: Comparison, array: np.ndarray) -> bool:
  """Whether a leaf fails; those that lie in other arrays are as they were."""
  others = _owners(comparison) - {_owner(array)}
  want = comparison.through(comparison.recorded)
  return any(_owner(want[path]) not in others and not difference(
      got, want[path], comparison.tolerance).passed
             for path, got in comparison.got.items())


def _owners(comparison: Comparison) -> set[int]:
  return {_owner(array) for array in comparison.recorded.values()
          if isinstance(array, np.ndarray)}


def _owner(array: Any) -> int:
  """Identity of the array that holds the memory of a view."""
  array = np.asarray(array)
  while isinstance(array.base, np.ndarray):
    array = array.base
  return id(array)


@contextlib.contextmanager
def _changed(array: np.ndarray, other: np.ndarray) -> Iterator[None]:
  """Other numbers in the array's memory, for a while."""
  kept = array.copy()
  array[...] = other
  yield
  array[...] = kept
