# SPDX-License-Identifier: Apache-2.0
"""Every recorded file of the PyTorch ports, and that each number counts."""

import pytest

from tests.parity import recordings
from tests.parity import tampering

pytestmark = pytest.mark.slow

finished = recordings.finished(recordings.PORTS)


def test_recorded_numbers(finished):
  _, report = finished
  assert report.passed, '\n'.join(report.failures)


def test_each_number_counts(finished):
  assert not tampering.unnoticed(*finished)
