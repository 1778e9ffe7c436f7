# SPDX-License-Identifier: Apache-2.0
"""A run on a disk that is full for a while: a real one, of four megabytes."""

import subprocess

import pytest

from promptcl.train_lib.records import report
from promptcl.train_lib.records import run_log
from promptcl.train_lib.resume import checkpoint
from promptcl.train_lib.resume import workdir as workdir_lib
from tests.helpers import fakes
from tests.helpers import killing
from tests.helpers import programs
from tests.torture import comparison

pytestmark = pytest.mark.slow

CONFIG = {'num_epochs': 1, 'eval_per_epochs': 0, 'checkpoint_every_steps': 3,
          'method': 'none', 'vit_classifier': 'token'}


@pytest.fixture(name='disk', scope='module')
def _disk(tmp_path_factory):
  """Folder on a small disk of its own."""
  folder = tmp_path_factory.mktemp('disk')
  mounted = subprocess.run(
      ['mount', '-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', str(folder)],
      check=False, capture_output=True, text=True)
  if mounted.returncode:
    pytest.skip(f'this machine mounts no small disk: {mounted.stderr.strip()}')
  yield folder
  subprocess.run(['umount', '--lazy', str(folder)], check=True)


def _fill(disk):
  with (open(disk / 'filler', 'wb', buffering=0) as filler,
        pytest.raises(OSError, match='No space left')):
    while True:
      filler.write(bytes(512))


@pytest.fixture(name='unbroken', scope='module')
def _unbroken(tmp_path_factory):
  """(what starts a run, workdir) on a disk with room."""
  folder = tmp_path_factory.mktemp('unbroken')
  start = programs.Starts(fakes.config(folder, **CONFIG))
  start(folder / 'run')
  return start, folder / 'run'


@pytest.mark.filterwarnings('ignore:Exception ignored in')  # Orbax's threads
def test_a_full_disk_costs_nothing_but_time(unbroken, disk, monkeypatch):
  start, expected = unbroken
  workdir = disk / 'run'
  for owner, name, call, what, step in (
      # Saved are steps 3, 5 (the end of task 0), 6, ...
      (checkpoint.Checkpointer, 'save', 2, 'checkpoint', 3),
      (run_log.RunLog, 'task_end', 1, 'events|no checkpoint', 3),
      (report, 'save', 2, 'results.csv|no checkpoint', 9)):
    with monkeypatch.context() as patch:
      killing.act_at_call(patch, owner, name, call, lambda: _fill(disk))
      with pytest.raises(OSError, match=f'{what}.* could ') as raised:
        start(workdir)
    assert '\n' not in str(raised.value) and str(workdir) in str(raised.value)
    with workdir_lib.open_checkpoints(str(workdir)) as checkpoints:
      assert 5 * checkpoints.latest.task + checkpoints.latest.steps >= step
    (disk / 'filler').unlink()
  start(workdir)
  assert comparison.difference(expected, workdir) == ''


def test_events_that_reach_no_disk_are_told_of(disk):
  (disk / 'log').mkdir()
  log = run_log.RunLog(str(disk / 'log'), fakes.config(), num_tasks=1,
                       num_steps=1, first_step=0, batch_size=1)
  log.flush()
  _fill(disk)
  # More than what is left of the last page of the file.
  log.scalars(1, {f'loss_{i}': 0.5 for i in range(100)})
  with pytest.raises(OSError) as raised:
    log.flush()
  (disk / 'filler').unlink()
  assert str(raised.value).startswith(
      f'no events could be written in {disk / "log"} ({disk / "log"}')
  assert '; No space left on device); make room' in str(raised.value)
  log.close()
