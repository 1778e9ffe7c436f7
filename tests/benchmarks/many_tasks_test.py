# Copyright 2026 The JAX Continual Prompting Authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
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
