# SPDX-License-Identifier: Apache-2.0
"""Starts of a run share what they compile, and hide no second trace."""

import functools

import numpy as np
import pytest

from promptcl.train_lib.core import parallel
from tests.helpers import fakes
from tests.helpers import programs


def _make(value):
  return lambda x: x + value


def test_a_later_start_takes_what_the_first_has_compiled():
  start, found = programs.Starts(fakes.config()), []
  for _ in range(2):
    with start.shared():
      found.append([parallel.pmap(_make(value)) for value in (1, 1, 2)])
  (one, same, two), again = found
  assert again == found[0] and len({*map(id, (one, same, two))}) == 3
  np.testing.assert_array_equal(two(np.ones(8)), np.full(8, 3.0))


def test_a_second_trace_in_a_later_start_is_refused():
  start = programs.Starts(fakes.config())
  for shape in (8, 1), (8, 1):
    with start.shared():
      parallel.pmap(_make(1))(np.ones(shape))
  with (start.shared(),
        pytest.raises(RuntimeError, match='was traced twice')):
    parallel.pmap(_make(1))(np.ones((8, 2)))
  parallel.pmap(_make(1))(np.ones((8, 2)))  # nobody shares outside of it


@pytest.mark.parametrize('other', [
    _make(np.float32([2])), _make(2), _make(_make(1)), lambda x: x,
    functools.partial(_make(1), 2)])
def test_what_closes_over_something_else_is_another_function(other):
  mine = _make(np.float32([1]))
  assert programs.fingerprint(mine) == programs.fingerprint(
      _make(np.float32([1])))
  assert programs.fingerprint(mine) != programs.fingerprint(other)


def test_configs_and_devices_share_nothing():
  first, other = (programs.Starts(fakes.config(seed=i)) for i in range(2))
  made = []
  for start in first, other:
    with start.shared():
      made.append(parallel.pmap(_make(1)))
  with first.shared():
    made.append(parallel.pmap(_make(1), in_axes=None))
    made.append(parallel.pmap(_make(1)))
  assert made[3] is made[0] and len({*map(id, made)}) == 3
