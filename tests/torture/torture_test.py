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
"""A kill of a real run; `python -m tests.torture` does more."""

import pytest

from tests.torture import __main__ as torture
from tests.torture import comparison

pytestmark = pytest.mark.slow


def test_a_run_that_was_killed_ends_as_if_it_was_not(tmp_path, capsys):
  assert torture.Torture(tmp_path, 'l2p', kills=1, seed=0).run()
  assert '1 kills' in capsys.readouterr().out
  # It compares what it says it does.
  assert len(comparison.events(tmp_path / 'unbroken')) > 100
  (tmp_path / 'killed1/results.csv').unlink()
  report = tmp_path / 'killed1/results.json'
  report.write_text(report.read_text().replace('"seed": 3', '"seed": 4'))
  found = comparison.difference(tmp_path / 'unbroken', tmp_path / 'killed1')
  assert 'seed: 3 -> 4' in found
