# SPDX-License-Identifier: Apache-2.0
"""Two hosts with two devices each; `python -m tests.hosts` does more."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from promptcl.train_lib.core import hosts
from tests.hosts import __main__ as session
from tests.hosts import cluster as cluster_lib
from tests.torture import comparison
from tests.torture import victim as torture

pytestmark = pytest.mark.slow

_SILENT = '''
import sys, time
from promptcl.train_lib.core import hosts
address, index, num_hosts, patience = sys.argv[1:]
hosts.join(address, int(num_hosts), int(index), timeout=3,
           patience=int(patience))
print('joined', flush=True)
time.sleep(100)
'''


_SCHEDULED = '''
import numpy as np
from promptcl.train_lib.core import hosts
hosts.join(None, None, None)
import jax
index = jax.process_index()
hosts.check_agreement('state', {'same': np.ones(3)})
try:
  hosts.check_agreement('state', {'a': np.ones(3), 'b': np.full(2, index)})
except ValueError as error:
  print(jax.process_count(), error)
'''


@pytest.fixture(name='cluster')
def _cluster(tmp_path):
  with cluster_lib.Cluster(tmp_path, hosts=2, devices=2, method='pgp'
                           ) as cluster:
    yield cluster


def test_two_hosts_are_one_run_whatever_happens_to_them(cluster):
  wrong = session.unbroken(cluster)
  assert not wrong, wrong
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
  """Starts a script; kills what is left of it."""
  started = []

  def start(script, *arguments, **environment):
    started.append(subprocess.Popen(
        [sys.executable, '-c', script, *map(str, arguments)],
        env={**os.environ, **environment}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE))
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
  pair = [start(_SILENT, address, index, 2, 60) for index in range(2)]
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


def test_a_scheduler_says_who_is_who_and_hosts_compare(start, address):
  pair = [start(_SCHEDULED, JAX_COORDINATOR_PORT=address.split(':')[1],
                SLURM_JOB_ID='7', SLURM_STEP_NODELIST='localhost',
                SLURM_NTASKS='2', SLURM_PROCID=str(i), SLURM_LOCALID=str(i))
          for i in range(2)]
  for process in pair:
    output, errors = process.communicate(timeout=120)
    assert output.splitlines()[-1] == (  # after Gloo's
        '2 hosts do not have the same state: b of host 1 is not that of '
        'host 0'), errors


def test_hosts_that_do_not_come_are_told(start, address):
  process = start(_SILENT, address, 0, 2, 1)
  _, errors = process.communicate(timeout=60)
  assert process.returncode == hosts.LOST_STATUS
  [line] = errors.split('\n')[1:-1]
  assert line.startswith(f'error: not all hosts met at {address} within 1 s')
