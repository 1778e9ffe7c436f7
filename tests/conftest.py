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
"""Where tests run: eight fake CPU devices, one compilation cache, no network.

The environment is set before anything imports JAX; child processes inherit it.
"""

import gc
import getpass
import os
import pathlib
import socket
import sys
import tempfile

import pytest

NUM_DEVICES = 8
_ROOT = pathlib.Path(__file__).resolve().parents[1]


def _environment() -> dict[str, str]:
  """What the tests need to be set, whatever the caller's shell says."""
  devices = f'--xla_force_host_platform_device_count={NUM_DEVICES}'
  others = [flag for flag in os.environ.get('XLA_FLAGS', '').split()
            if 'host_platform_device_count' not in flag]
  paths = [str(_ROOT), os.environ.get('PYTHONPATH', '')]
  cache = os.path.join(
      tempfile.gettempdir(), f'jax_continual_prompting_{getpass.getuser()}')
  return {
      'XLA_FLAGS': ' '.join([*others, devices]),
      'JAX_PLATFORMS': 'cpu',
      'CUDA_VISIBLE_DEVICES': '',
      'PYTHONPATH': os.pathsep.join(filter(None, paths)),
      'TF_CPP_MIN_LOG_LEVEL': '2',
      'JAX_COMPILATION_CACHE_DIR': os.environ.get(
          'JAX_COMPILATION_CACHE_DIR', cache),
      # Tiny programs make up most of the suite: cache them all.
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.05',
      'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
      # ... and most of their time goes into compiling what runs once.
      'JAX_DISABLE_MOST_OPTIMIZATIONS': os.environ.get(
          'JAX_DISABLE_MOST_OPTIMIZATIONS', '1'),
  }


os.environ.update(_environment())


@pytest.fixture(scope='session')
def shared():
  """Folder with the parity fixtures and the real data, or a skip."""
  folder = pathlib.Path(os.environ.get('SHARED_DIR', _ROOT / '../shared'))
  if not folder.is_dir():
    pytest.skip(f'no folder {folder} with reference data (set SHARED_DIR)')
  return folder


@pytest.fixture(scope='module', autouse=True)
def release_programs():
  """Frees compiled programs after each file.

  Every one holds some memory maps, of which Linux gives a process 65,530; the
  whole suite needs more, and XLA then dies of a segmentation fault.
  """
  yield
  if 'jax' in sys.modules:
    sys.modules['jax'].clear_caches()
    gc.collect()


@pytest.fixture(scope='session')
def repository():
  """Root folder of the source tree."""
  return _ROOT


@pytest.fixture(autouse=True)
def offline(monkeypatch):
  """Only this machine can be reached: a test that needs more must fail."""
  connect = socket.socket.connect

  def refuse(self, address):
    inet = self.family in (socket.AF_INET, socket.AF_INET6)
    if inet and address[0] not in ('127.0.0.1', '::1', 'localhost'):
      raise OSError(f'tests have no network: {address} refused')
    return connect(self, address)

  monkeypatch.setattr(socket.socket, 'connect', refuse)
