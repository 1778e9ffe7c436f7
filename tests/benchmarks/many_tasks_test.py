# SPDX-License-Identifier: Apache-2.0
"""What a run holds after more tasks; the command itself takes minutes."""

import pytest

from benchmarks import many_tasks

pytestmark = pytest.mark.slow


def test_later_tasks_hold_and_compile_nothing_more(tmp_path):
  config = many_tasks.make_config(3, tmp_path, per_device_batch_size=1)
  told = []
  samples = many_tasks.measure(config, tmp_path / 'run', 1, tell=told.append)
  assert samples == told and [s.tasks for s in samples] == [1, 2, 3]
  _, later, last = samples  # evaluation compiles after the first
  assert later.arrays == last.arrays and later.array_bytes == last.array_bytes
  assert later.compilations == last.compilations > 0
  assert all(s.resident > 100 and s.threads > 0 for s in samples)
