# SPDX-License-Identifier: Apache-2.0
"""What a user sees when the command is stopped or something fails in it."""

import numpy as np
import pytest

from tests.helpers import environment
from tests.helpers import fakes
from tests.helpers import preloaded

pytestmark = pytest.mark.slow

_RECIPE = '''
import functools, os, resource, signal
import pytest
from tests.helpers import fakes
from tests.helpers import killing
from promptcl.train_lib.records import run_log

before = functools.partial(killing.act_at_call, pytest.MonkeyPatch())

def fill_device():
  import jax.numpy as jnp
  jnp.zeros(1 << 50).block_until_ready()

def fill_disk():
  resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

def get_config():
  {action}
  return fakes.bare_config(**{changes!r})
'''


@pytest.fixture(name='run_main')
def _run_main(repository, tmp_path):
  """Runs main.py with a recipe that does something to its own process."""
  changes = {'dataset': fakes.write_data(tmp_path / 'data.npz'),
             'init_checkpoint': fakes.write_checkpoint(tmp_path / 'vit.npz'),
             'num_epochs': 1, 'per_device_batch_size': 8}

  def run(action, *arguments, **more):
    recipe = tmp_path / 'recipe.py'
    recipe.write_text(_RECIPE.format(action=action, changes={
        **changes, **more}))
    with preloaded.start(
        str(repository / 'main.py'), f'--my_config={recipe}',
        f'--workdir={tmp_path / "run"}', *arguments,
        env=environment.of_child(), folder=tmp_path) as ended:
      ended.wait()
    return ended

  return run


def _last_line(done):
  assert 'Traceback' not in done.output + done.errors, done.errors
  return [line for line in done.errors.splitlines() if line.strip()][-1]


def test_sigterm_and_ctrl_c_have_a_status_of_their_own(run_main, tmp_path):
  done = run_main("before(run_log.RunLog, 'train_step', 7, lambda: "
                  'os.kill(os.getpid(), signal.SIGTERM))')
  assert done.status == 75, done.errors
  assert _last_line(done) == (
      'stopped by SIGTERM in task 2, after 2 of its steps; the same command '
      'goes on there')
  assert not (tmp_path / 'run/results.json').exists() or (
      '"finished": false' in (tmp_path / 'run/results.json').read_text())


def test_a_full_disk_is_one_line(run_main, tmp_path):
  """Although events and a checkpoint fail, in threads of two libraries."""
  done = run_main("before(run_log.RunLog, 'task_end', 2, fill_disk)")
  assert done.status == 1, done.errors
  [line] = [line for line in done.errors.splitlines()
            if line.strip() and 'img' not in line]
  assert line.startswith('error: no ') and 'make room' in line
  assert [p.name for p in (tmp_path / 'run/checkpoints').iterdir()
          if p.name.isdigit()] == ['0']


def test_a_device_without_memory_is_one_line_and_nothing_is_lost(
    run_main, tmp_path):
  done = run_main("before(run_log.RunLog, 'train_step', 7, fill_device)",
                  grad_clip_scope='all')
  assert done.status == 1, done.errors
  line = _last_line(done)
  assert line.startswith('error: a device has not enough memory: ')
  assert f'{4 << 50} bytes' in line
  assert line.endswith(
      'lower per_device_batch_size=8 and use more devices, or set '
      'grad_clip_scope=trainable, or set dtype=bfloat16')
  assert [p.name for p in (tmp_path / 'run/checkpoints').iterdir()
          if p.name.isdigit()] == ['0']


def test_debug_nans_names_the_operation(run_main, tmp_path):
  """The step is made again, operation by operation, as far as the NaN.

  That is not far where the pixels' embedding overflows.
  """
  with np.load(tmp_path / 'vit.npz') as file:
    arrays = dict(file)
  arrays['embedding/kernel'] *= np.float32(1e38)
  np.savez(tmp_path / 'wild.npz', **arrays)
  done = run_main('pass', '--debug_nans',
                  init_checkpoint=str(tmp_path / 'wild.npz'))
  assert done.status == 1, done.errors
  assert 'encountered in' in _last_line(done)
