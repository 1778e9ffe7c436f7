# SPDX-License-Identifier: Apache-2.0
"""The recorded files that are here, and each file's report, made once."""

from collections.abc import Sequence
import os
import pathlib
from typing import Any

import jax
import pytest

from tests.parity import fixture as fixture_lib
from tests.parity import kinds

_ROOT = pathlib.Path(__file__).parents[2]
_SHARED = pathlib.Path(os.environ.get('SHARED_DIR', _ROOT / '../shared'))
FOLDER = (_SHARED / 'parity').resolve()
OFFICIAL = sorted((FOLDER / 'official_l2p').glob('*.npz'))
PORTS = [path for name in fixture_lib.PORTS
         if (path := FOLDER / 'torch_ports' / f'{name}.npz').is_file()]


def finished(paths: Sequence[pathlib.Path]) -> Any:
  """A pytest fixture: each file, which was run, and its report.

  Files are run one after the other, with all tests that look at the report.
  """
  @pytest.fixture(scope='module', params=paths or [None],
                  ids=lambda path: path.stem if path else 'none')
  def run(request):
    if request.param is None:
      pytest.skip(f'no recorded numbers in {FOLDER}')
    fixture = fixture_lib.Fixture(str(request.param))
    if fixture.devices > jax.local_device_count():
      pytest.skip(f'needs {fixture.devices} devices')
    return fixture, kinds.run(fixture, brief=True)

  return run
