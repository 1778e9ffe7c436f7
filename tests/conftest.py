# SPDX-License-Identifier: Apache-2.0
"""Where tests run: eight fake CPU devices, one compilation cache, no network.

The environment is set before anything imports JAX; child processes inherit it.
"""

import functools
import gc
import math
import os
import pathlib
import socket
import sys

from _pytest import runner
import pytest

from tests.helpers import environment

NUM_DEVICES = 8
_MAPS = pathlib.Path('/proc/self/maps')
_MANY_MAPS = 30_000  # the greediest file makes 20,000
environment.set_up(NUM_DEVICES)


def pytest_configure(config):
  """Lets pytest-xdist, where it is, hand out files in the order of `items`."""
  config.option.loadscopereorder = False


def pytest_collection_finish():
  """What is imported by now lives to the end."""
  environment.collect_seldom()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
  """Does what pytest does, with room for the deep recursion of tracing."""
  item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
  environment.with_room(
      functools.partial(runner.runtestprotocol, item, nextitem=nextitem))
  item.ihook.pytest_runtest_logfinish(
      nodeid=item.nodeid, location=item.location)
  return True


def pytest_collection_modifyitems(items):
  """Files with slow tests come first, so that no process waits at the end."""
  slow = {item.path for item in items if item.get_closest_marker('slow')}
  items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope='session')
def shared():
  """Folder with the parity fixtures and the real data, or a skip."""
  folder = pathlib.Path(
      os.environ.get('SHARED_DIR', environment.ROOT / '../shared'))
  if not folder.is_dir():
    pytest.skip(f'no folder {folder} with reference data (set SHARED_DIR)')
  return folder


@pytest.fixture(scope='module', autouse=True)
def release_programs():
  """Frees compiled programs after a file, where they became too many.

  Every one holds some memory maps, of which Linux gives a process 65,530; the
  whole suite needs more, and XLA then dies of a segmentation fault.  Before,
  files share what they compile.
  """
  yield
  if 'jax' in sys.modules and _num_maps() > _MANY_MAPS:
    sys.modules['jax'].clear_caches()
    gc.collect()


def _num_maps():
  """Memory maps of this process; infinite where the system does not say."""
  return _MAPS.read_bytes().count(b'\n') if _MAPS.is_file() else math.inf


@pytest.fixture(scope='session')
def repository():
  """Root folder of the source tree."""
  return environment.ROOT


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
