# SPDX-License-Identifier: Apache-2.0
"""Real runs of several hosts against one process, with losses and signals.

  python -m tests.hosts --hosts 4 --devices 2 --method l2p --seed 0

A run of three tasks on tiny data by several processes must have the counts of
one process with as many devices.  Then a host at a random point is killed, sent
SIGTERM or stopped for good, the others must leave within their time with one
line, and after as many starts with the same command the run must be identical
to the unbroken one.  The exit status is 0 if all is so.
"""

import argparse
import json
import math
import pathlib
import random
import sys
import tempfile
import time

from promptcl.train_lib.core import hosts as hosts_lib
from promptcl.train_lib.resume import interrupt
from tests.helpers import environment
from tests.hosts import cluster as cluster_lib
from tests.torture import comparison

_SIGNALS = ('SIGKILL', 'SIGTERM', 'SIGINT')


def disagreement(one: pathlib.Path, several: pathlib.Path) -> str:
  """First number of results.json that one process would not have.

  Counts must be equal; losses may differ by the order of float32 sums.
  """
  a, b = (json.loads((folder / 'results.json').read_text())
          for folder in (one, several))
  for path, x, y in comparison.leaves('results.json', a, b):
    both = isinstance(x, float) and isinstance(y, float)
    if x != y and not (both and math.isclose(x, y, rel_tol=2e-4)):
      return f'{path}: {x} -> {y}'
  return ''


def broken(host: cluster_lib.Host, signal: str) -> str:
  """What is wrong with how a host went that was not killed, if anything."""
  lines = host.errors.splitlines()
  told = [line for line in lines if line.startswith(
      ('error: ', 'stopped by a signal to one of the hosts'))]
  killed = signal == 'SIGKILL'
  status = hosts_lib.LOST_STATUS if killed else interrupt.EXIT_STATUS
  if host.status != status or len(told) != 1 or (
      ' lost ' in told[0]) != killed or 'the same command' not in told[0]:
    return f'status {host.status}, {told}\n{host.errors[-3000:]}'
  for trace in 'Traceback', 'Fatal Python error', '*** Check failure':
    if trace in host.errors:
      return host.errors
  return ''


def unbroken(cluster: cluster_lib.Cluster) -> str:
  """Runs one process and all hosts; what they do not agree in, if anything."""
  for host in (cluster.alone('one'), *cluster.run('unbroken')):
    if host.status:
      return host.errors[-3000:]
  if cluster.writers('unbroken') != {0}:
    return f'events were written by hosts {cluster.writers("unbroken")}'
  return disagreement(cluster.workdir('one'), cluster.workdir('unbroken'))


def disturbed(cluster: cluster_lib.Cluster, victim: int, seed: int,
              signal: str) -> tuple[str, str]:
  """One start in which a host gets a signal; -> (point, what was wrong).

  The point is empty if the run was done before.
  """
  ended = cluster.run('disturbed', '--host_timeout=30',
                      signals={victim: (seed, signal)})
  points = [line.removeprefix('point: ') for line in ended[
      victim].errors.splitlines() if line.startswith('point: ')]
  if not any(host.status for host in ended):
    return '', ''
  survivors = [host for i, host in enumerate(ended)
               if i != victim or signal != 'SIGKILL']
  seconds = max(host.seconds for host in ended)
  wrong = [found for host in survivors if (found := broken(host, signal))]
  return (f'{"".join(points)}, all gone {seconds:.1f} s after the first',
          '\n'.join(wrong))


def session(cluster: cluster_lib.Cluster, disturbances: int, seed: int) -> bool:
  """Whether all went well; prints what happens."""
  started = time.monotonic()
  wrong = unbroken(cluster)
  print(f'{cluster.hosts} hosts with {cluster.devices} devices each and one '
        f'process: {wrong or "same counts"}', flush=True)
  draw = random.Random(seed)
  for number in range(disturbances):
    victim, signal = draw.randrange(cluster.hosts), _SIGNALS[number % 3]
    point, found = disturbed(cluster, victim, draw.randrange(2**32), signal)
    if not point:
      break
    print(f'{signal} to host {victim}: {point}: {found or "as it should"}',
          flush=True)
    wrong = wrong or found
  ended = cluster.run('disturbed')
  found = '\n'.join(host.errors for host in ended if host.status) or (
      comparison.difference(cluster.workdir('unbroken'),
                            cluster.workdir('disturbed')))
  print(f'started again: {found or "identical"}; '
        f'{time.monotonic() - started:.0f} s in all', flush=True)
  return not wrong and not found


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--hosts', type=int, default=4)
  parser.add_argument('--devices', type=int, default=2, help='of each host')
  parser.add_argument('--method', choices=sorted(cluster_lib.METHODS),
                      default='l2p')
  parser.add_argument('--disturbances', type=int, default=6)
  parser.add_argument('--seed', type=int, default=0)
  options = parser.parse_args()
  environment.set_up(options.devices)
  with (tempfile.TemporaryDirectory() as folder,
        cluster_lib.Cluster(pathlib.Path(folder), hosts=options.hosts,
                            devices=options.devices, method=options.method
                            ) as cluster):
    good = session(cluster, options.disturbances, options.seed)
    return 0 if good else 1


if __name__ == '__main__':
  sys.exit(main())
