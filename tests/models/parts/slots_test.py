# SPDX-License-Identifier: Apache-2.0
"""Slots of tasks and the anchors drawn for them."""

import numpy as np
import pytest

from promptcl.models.parts import generated_method
from promptcl.models.parts import slots as slots_lib

SLOTS = slots_lib.Slots((2, 0, 3))


def test_slots_stand_in_the_order_of_their_tasks():
  assert SLOTS.total == 5
  np.testing.assert_array_equal(SLOTS.owner, [0, 0, 2, 2, 2])
  spans = [range(5)[SLOTS.span(task)] for task in range(4)]
  assert spans == [range(0, 2), range(2, 2), range(2, 5), range(5, 5)]


def test_new_rows_are_orthonormal_and_random():
  known = np.eye(6, dtype=np.float32)[:2]
  rows = slots_lib.orthonormal(np.random.default_rng(0), known, 4)
  assert rows.dtype == np.float32
  every = np.concatenate([known, rows])
  np.testing.assert_allclose(every @ every.T, np.eye(6), atol=1e-6)
  other = slots_lib.orthonormal(np.random.default_rng(1), known, 4)
  assert not np.allclose(rows, other)


@pytest.mark.parametrize('task', range(4))
def test_a_task_fills_its_own_rows_alike_on_every_host(task):
  start = np.zeros((5, 8), np.float32)
  filled = generated_method.filled(start, SLOTS, task, seed=3)
  again = generated_method.filled(start, SLOTS, task, seed=3)
  np.testing.assert_array_equal(filled, again)
  own = np.zeros(5, bool)
  own[SLOTS.span(task)] = True
  np.testing.assert_array_equal(np.any(filled, axis=1), own)
  other = generated_method.filled(start, SLOTS, task, seed=4)
  assert np.any(own) == (not np.array_equal(filled, other))
  assert not np.any(start)
