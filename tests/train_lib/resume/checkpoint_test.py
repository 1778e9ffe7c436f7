# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: exact, whole or absent."""

import os
import resource
import shutil
import subprocess
import sys
import textwrap
import warnings

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from promptcl.train_lib.core import hosts
from promptcl.train_lib.records import results as results_lib
from promptcl.train_lib.resume import checkpoint
from promptcl.train_lib.resume.checkpoint import DONE
from promptcl.train_lib.resume.checkpoint import ResumePoint
from promptcl.train_lib.resume.checkpoint import TRAINING

TX = optax.chain(optax.clip_by_global_norm(1.),
                 optax.inject_hyperparams(optax.adamw)(learning_rate=.1))


@flax.struct.dataclass
class State:
  """As the real train state, in small."""

  step: jax.Array
  params: dict
  opt_state: optax.OptState
  memory: dict


def _state(seed=0):
  keys = jax.random.split(jax.random.key(seed), 3)
  params = {'prompt/prompt_pool/key': jax.random.normal(keys[0], (4, 3)),
            'head/kernel': jax.random.normal(keys[1], (3, 2))}
  bases = jax.random.normal(keys[2], (2, 2), jnp.bfloat16)
  memory = {'bases': {'head/kernel': bases},
            'empty': jnp.zeros((0, 3)), 'count': jnp.int32(seed),
            'seen': jnp.array([True, False])}
  return State(jnp.int32(7 * seed), params, TX.init(params), memory)


@jax.jit
def _train(state):
  grads = jax.tree.map(lambda p: jnp.sin(3 * p) + state.step, state.params)
  updates, opt_state = TX.update(grads, state.opt_state, state.params)
  return state.replace(step=state.step + 1, opt_state=opt_state,
                       params=optax.apply_updates(state.params, updates))


def _assert_same(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    x, y = np.asarray(x), np.asarray(y)
    assert x.dtype == y.dtype and x.shape == y.shape
    assert x.tobytes() == y.tobytes()


@pytest.fixture(name='make')
def _make(tmp_path):
  opened = []

  def make(**kwargs):
    opened.append(checkpoint.Checkpointer(tmp_path / 'checkpoints', **kwargs))
    return opened[-1]

  yield make
  for checkpointer in opened:
    checkpointer.close()


def test_nothing_to_restore(make):
  checkpointer = make()
  assert checkpointer.restore_latest(_state()) is None
  assert checkpointer.latest is None


def test_restores_every_bit(make):
  state = _train(_train(_state(1)))
  arrays = {'correct:batch': np.array([[3, -1], [2, 1]]),
            'loss': np.array([np.nan, 1 / 3]), 'a/b.c': np.zeros((0, 2))}
  checkpointer = make()
  checkpointer.save(ResumePoint(4), state, arrays)
  checkpointer.close()
  task, restored, restored_arrays = make().restore_latest(_state(0))
  assert task == 4
  assert isinstance(restored, State)
  _assert_same(restored, state)
  _assert_same(restored_arrays, arrays)


def test_stopped_and_resumed_equals_unbroken(make):
  unbroken = _state(2)
  for _ in range(6):
    unbroken = _train(unbroken)
  state = _state(2)
  for _ in range(3):
    state = _train(state)
  first = make()
  first.save(ResumePoint(0), state, {'x': np.zeros(1)})
  first.close()
  _, state, _ = make().restore_latest(_state(0))
  for _ in range(3):
    state = _train(state)
  _assert_same(state, unbroken)


def test_results_survive(make):
  results = results_lib.Results(2, ('a', 'b'), headline='batch')
  results.record(0, {0: results_lib.Scores(
      9, {'batch': 4}, loss=.1, prompt_counts=np.array([5, 4]))}, seconds=.5)
  checkpointer = make()
  checkpointer.save(ResumePoint(0), _state(), results.arrays())
  checkpointer.wait()
  other = results_lib.Results(2, ('a', 'b'), headline='batch')
  other.restore(checkpointer.restore_latest(_state())[2])
  _assert_same(other.arrays(), results.arrays())


def test_save_takes_a_copy_before_it_returns(make):
  memory = {'store': np.arange(200_000.)}
  state = State(jnp.int32(0), {}, (), memory)
  checkpointer = make()
  checkpointer.save(ResumePoint(0), state, {'x': memory['store']})
  memory['store'][:] = -1
  _, restored, arrays = checkpointer.restore_latest(state)
  np.testing.assert_array_equal(restored.memory['store'], np.arange(200_000.))
  np.testing.assert_array_equal(arrays['x'], np.arange(200_000.))


def test_newest_is_restored_and_older_ones_are_deleted(make, tmp_path):
  checkpointer = make(max_to_keep=2)
  for task in range(4):
    checkpointer.save(ResumePoint(task), _state(task), {'task': np.array(task)})
  task, state, arrays = checkpointer.restore_latest(_state())
  assert (task, int(state.step), int(arrays['task'])) == (3, 21, 3)
  assert sorted(os.listdir(tmp_path / 'checkpoints')) == ['2', '3']


def test_a_checkpoint_knows_its_resume_point(make):
  checkpointer = make()
  assert checkpointer.latest is None
  points = (ResumePoint(0, 7, TRAINING, 1 / 3, 16, {'events.out': 12}),
            ResumePoint(0, 9, DONE, 2.5, 16, {'events.out': 12, 'b': 0}))
  for point in points:
    checkpointer.save(point, _state(), {'x': np.zeros(1)})
    assert checkpointer.latest == point
  assert [str(point) for point in points] == [
      'in task 1, after 7 of its steps', 'after task 1']


def test_another_structure_is_refused(make):
  checkpointer = make()
  checkpointer.save(ResumePoint(0), _state(), {'x': np.zeros(1)})
  state = _state()
  wider = state.replace(params=state.params | {
      'head/kernel': jnp.zeros((3, 5)), 'prompt/new': jnp.zeros(1)})
  with pytest.raises(ValueError) as error:
    checkpointer.restore_latest(wider)
  message = str(error.value)
  assert ('params/head/kernel: ["float32", [3, 2]] -> ["float32", [3, 5]]'
          in message)
  assert 'params/prompt/new: (absent) -> ["float32", [1]]' in message


def test_unfinished_save_is_ignored(make, tmp_path):
  first = make()
  first.save(ResumePoint(0), _state(1), {'x': np.zeros(1)})
  first.close()
  directory = tmp_path / 'checkpoints'
  # What a kill in the middle of the next save leaves behind.
  for task in (1, 7):
    left = directory / f'{task}.orbax-checkpoint-tmp'
    shutil.copytree(directory / '0', left)
    (left / 'commit_success.txt').unlink(missing_ok=True)
    shutil.rmtree(left / 'state')
  checkpointer = make()
  task, state, _ = checkpointer.restore_latest(_state())
  assert task == 0
  _assert_same(state, _state(1))
  checkpointer.save(ResumePoint(1), _state(2), {'x': np.ones(1)})
  task, state, _ = checkpointer.restore_latest(_state())
  assert task == 1
  _assert_same(state, _state(2))
  assert sorted(os.listdir(directory)) == ['0', '1']


def test_killed_while_saving(make, tmp_path):
  script = textwrap.dedent(f"""
      import os, sys, threading
      import numpy as np
      from promptcl.train_lib.resume import checkpoint
      from promptcl.train_lib.resume.checkpoint import ResumePoint
      c = checkpoint.Checkpointer({str(tmp_path / 'checkpoints')!r})
      big = {{'w': np.arange(3e6)}}
      c.save(ResumePoint(0), big, {{'x': np.zeros(1)}})
      c.wait()
      c.save(ResumePoint(1), big, {{'x': np.ones(1)}})
      os._exit(9)  # as SIGKILL: nothing is cleaned up
      """)
  environment = os.environ | {
      'PYTHONPATH': os.pathsep.join(p for p in sys.path if p)}
  done = subprocess.run([sys.executable, '-c', script], env=environment,
                        check=False, capture_output=True)
  assert done.returncode == 9, done.stderr.decode()
  task, state, arrays = make().restore_latest({'w': np.zeros(3_000_000)})
  assert int(arrays['x'][0]) == task  # whichever it is, it is whole
  np.testing.assert_array_equal(state['w'], np.arange(3e6))


def test_a_full_disk_costs_no_earlier_checkpoint(make):
  """A limit on the size of files stands for the disk."""
  noise = np.random.default_rng(0).random(200_000)
  first = make()
  first.save(ResumePoint(0), {'w': noise}, {'x': np.zeros(1)})
  first.wait()
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
  try:
    with pytest.raises(OSError) as error:
      first.save(ResumePoint(1), {'w': noise + 1}, {'x': np.ones(1)})
      first.wait()
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
  assert '\n' not in str(error.value)
  for word in ('checkpoints', 'File too large', 'make room'):
    assert word in str(error.value)
  first.close()
  again = make()
  assert again.latest == ResumePoint(0)
  _, state, _ = again.restore_latest({'w': noise})
  np.testing.assert_array_equal(state['w'], noise)
  again.save(ResumePoint(1), {'w': noise + 1}, {'x': np.ones(1)})
  assert again.latest == ResumePoint(1)


def test_a_lost_host_is_not_taken_for_a_full_disk(make, monkeypatch):
  error = jax.errors.JaxRuntimeError(
      'UNKNOWN: Gloo AllGather failed: Connection closed by peer')

  def fail(*unused, **unused_too):
    raise error

  checkpoints = make()
  monkeypatch.setattr(checkpoints._manager, 'save', fail)
  with pytest.raises(OSError, match='no checkpoint could be saved'):
    checkpoints.save(ResumePoint(0), _state(), {'x': np.zeros(1)})
  monkeypatch.setattr(hosts, 'several', lambda: True)
  with pytest.raises(jax.errors.JaxRuntimeError):
    checkpoints.save(ResumePoint(0), _state(), {'x': np.zeros(1)})


def test_no_warnings(make):
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    first = make()
    first.save(ResumePoint(0), _state(), {'x': np.zeros(1)})
    first.close()
    make().restore_latest(_state())
