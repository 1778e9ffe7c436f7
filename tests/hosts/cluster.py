# SPDX-License-Identifier: Apache-2.0
"""Processes of one machine as the hosts of a run.

  with Cluster(folder, hosts=2, devices=2, method='l2p') as cluster:
    for host in cluster.run('name'):
      assert host.status == 0, host.errors
"""

import dataclasses
import pathlib
import socket
import time

from tests.helpers import environment
from tests.helpers import fakes
from tests.helpers import preloaded
from tests.helpers import projections
from tests.torture import __main__ as torture

_BATCH = 8  # over all devices
# Hosts may compile for long after each other where there are few cores.
_SLOW = ('--xla_cpu_collective_timeout_seconds=600',
         '--xla_cpu_collective_call_terminate_timeout_seconds=600')
# Fills no batch, and in the last one some hosts have no image at all.
TEST_IMAGES = 5
# Sixty steps at the usual rate amplify the last bit of a sum to per mille.
_GENTLE = {'learning_rate': 0.03}
METHODS = {
    **torture.METHODS, 'replay': {**torture.METHODS['replay'], **_GENTLE},
    'pgp': projections.L2P,
    'dualprompt_pgp': projections.DUAL,
    'gaussian': {**_GENTLE, 'gaussian_schedule': True, 'gaussian_mode': 'paper',
                 'continual.num_tasks': 12,
                 'continual.num_classes_per_task': fakes.NUM_CLASSES}}
_RECIPE = '''
from tests.helpers import environment
from tests.helpers import fakes
from tests.helpers import preloaded

def get_config():
  return fakes.bare_config(**{changes!r})
'''


@dataclasses.dataclass
class Host:
  """A process that ended.

  Attributes:
    status: of its exit; negative for a signal.
    output, errors: what it wrote.
    seconds: from the first end of a host to this one.
  """

  status: int
  output: str
  errors: str
  seconds: float

  @property
  def last_line(self) -> str:
    return [line for line in self.errors.splitlines() if line.strip()][-1]


class Cluster:
  """Starts runs of one recipe; ends what is left of them.

  Attributes:
    hosts, devices: devices are per host.
  """

  def __init__(self, folder: pathlib.Path, *, hosts: int, devices: int,
               method: str):
    """Writes data, weights and recipe to `folder`, where workdirs go, too."""
    self.hosts, self.devices, self._folder = hosts, devices, folder
    per_device = _BATCH // (hosts * devices)
    changes = {
        'dataset': fakes.write_data(folder / 'data.npz',
                                    test_per_class=TEST_IMAGES),
        'init_checkpoint': fakes.write_checkpoint(folder / 'vit.npz'),
        'per_device_batch_size': per_device, 'num_epochs': 1,
        'data_threads': 2, 'checkpoint_every_steps': 3, **METHODS[method]}
    if 'replay.batch_size' in changes:
      changes['replay.batch_size'] = per_device
    self._recipe = folder / 'recipe.py'
    self._recipe.write_text(_RECIPE.format(changes=changes))
    self._running: list[preloaded.Run] = []

  def __enter__(self) -> 'Cluster':
    return self

  def __exit__(self, *unused) -> None:
    for process in self._running:
      process.kill()

  def alone(self, name: str) -> Host:
    """The same run by one process with all the devices."""
    self._start(name, self.hosts * self.devices)
    return self._finish(name, timeout=600)[0]

  def run(self, name: str, *arguments: str, signals: dict | None = None,
          workdirs: dict[int, str] | None = None, timeout: float = 600
          ) -> list[Host]:
    """A run by all hosts, to its end or theirs.

    Args:
      name: of the workdir.
      *arguments: more flags.
      signals: `{host: (seed, signal name)}` for `tests.torture.victim`.
      workdirs: names for hosts that are given another one.
      timeout: seconds, an error after them.
    """
    with socket.socket() as free:
      free.bind(('127.0.0.1', 0))
      address = f'127.0.0.1:{free.getsockname()[1]}'
    for i in range(self.hosts):
      seed, number = (signals or {}).get(i, ('', ''))
      wrapper = ['-m', 'tests.torture.victim', str(seed), '0', number
                 ] if number else []
      self._start((workdirs or {}).get(i, name), self.devices, wrapper, [
          f'--coordinator={address}', f'--num_hosts={self.hosts}',
          f'--host={i}', *arguments])
    return self._finish(name, timeout)

  def workdir(self, name: str) -> pathlib.Path:
    return self._folder / name

  def writers(self, name: str) -> set[int]:
    """Indices of the hosts that wrote events in the last run of `name`."""
    files = self.workdir(name).glob('events.out.tfevents.*')
    pids = {int(path.name.split('.')[-3]) for path in files}
    return {i for i, pid in enumerate(self._last) if pid in pids}

  def _start(self, name, devices, wrapper=(), arguments=()):
    self._running.append(preloaded.start(
        *wrapper, str(environment.ROOT / 'main.py'),
        f'--my_config={self._recipe}', f'--workdir={self.workdir(name)}',
        *arguments, env=environment.of_child(devices, *_SLOW)))

  def _finish(self, name: str, timeout: float) -> list[Host]:
    """Waits for all; kills and complains after `timeout` seconds."""
    started, ends = time.monotonic(), {}
    while len(ends) < len(self._running):
      time.sleep(0.05)
      now = time.monotonic()
      for i, process in enumerate(self._running):
        if i not in ends and process.status is not None:
          ends[i] = now
      if now - started > timeout:
        left = [i for i in range(len(self._running)) if i not in ends]
        raise TimeoutError(f'{name}: hosts {left} still run after {timeout} s; '
                           + self._running[left[0]].errors[-2000:])
    done, self._running = self._running, []
    self._last = [process.pid for process in done]
    return [Host(process.status, process.output, process.errors,
                 ends[i] - min(ends.values()))
            for i, process in enumerate(done)]
