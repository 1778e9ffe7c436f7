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
"""Two hosts with two devices each; `python -m tests.hosts` does more."""

import json
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.hosts import __main__ as session
from tests.hosts import cluster as cluster_lib
from tests.torture import comparison
from tests.torture import victim as torture
from train_lib import hosts

_SILENT = '''
import sys, time
from train_lib import hosts
address, index, num_hosts, patience = sys.argv[1:]
hosts.join(address, int(num_hosts), int(index), timeout=3,
           patience=int(patience))
print('joined', flush=True)
time.sleep(100)
'''


@pytest.fixture(name='cluster')
def _cluster(tmp_path):
  with cluster_lib.Cluster(tmp_path, hosts=2, devices=2, method='pgp'
                           ) as cluster:
    yield cluster


def test_two_hosts_are_one_run_whatever_happens_to_them(cluster):
  assert not session.unbroken(cluster)
  results = json.loads(
      (cluster.workdir('unbroken') / 'results.json').read_text())
  images = cluster_lib.TEST_IMAGES * 2  # of the classes of a task
  assert [e['total'] for e in results['eval_sets']] == [images] * 3

  # In the second task, killed in a step and asked to stop in another.
  for victim, count, sent in ((1, 40, 'SIGKILL'), (0, 3, 'SIGTERM')):
    point, wrong = session.disturbed(
        cluster, victim, torture.seed_for(count), sent)
    assert point and not wrong, (point, wrong)
  for host in cluster.run('disturbed'):
    assert host.status == 0, host.errors
  assert not comparison.difference(cluster.workdir('unbroken'),
                                   cluster.workdir('disturbed'))


def test_hosts_need_one_workdir(cluster):
  ended = cluster.run('mine', workdirs={1: 'yours'})
  for host in ended:
    assert host.status == 1, host.errors
    assert 'not one folder that all hosts share' in host.last_line
  assert not list(cluster.workdir('yours').iterdir())


@pytest.fixture(name='start')
def _start():
  """Starts `_SILENT`; kills what is left of it."""
  started = []

  def start(address, index, num_hosts=2, patience=60):
    started.append(subprocess.Popen(
        [sys.executable, '-c', _SILENT, address, *map(
            str, (index, num_hosts, patience))],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    return started[-1]

  yield start
  for process in started:
    process.kill()
    process.communicate()


@pytest.fixture(name='address')
def _address():
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    return f'127.0.0.1:{free.getsockname()[1]}'


@pytest.mark.parametrize('lost', [0, 1])
def test_a_host_that_falls_silent_ends_the_others(start, address, lost):
  pair = [start(address, index) for index in range(2)]
  for process in pair:
    assert process.stdout.readline() == 'joined\n'
  pair[lost].send_signal(signal.SIGSTOP)
  stopped = time.monotonic()
  _, errors = pair[1 - lost].communicate(timeout=60)
  assert pair[1 - lost].returncode == hosts.LOST_STATUS, errors
  assert time.monotonic() - stopped < 30
  [line] = errors.split('\n')[1:-1]
  assert line.startswith('error: ') and ' was lost (silent for 3 s' in line
  assert f'host {lost}' in line or 'another host' in line


def test_hosts_that_do_not_come_are_told(start, address):
  process = start(address, 0, patience=1)
  _, errors = process.communicate(timeout=60)
  assert process.returncode == hosts.LOST_STATUS
  [line] = errors.split('\n')[1:-1]
  assert line.startswith(f'error: not all hosts met at {address} within 1 s')
