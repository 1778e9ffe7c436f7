# SPDX-License-Identifier: Apache-2.0
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
