# SPDX-License-Identifier: Apache-2.0
"""Devices: one trace only, copies, shards, prefetching in order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from promptcl.train_lib.core import parallel


def _add(state, x):
  return state + jax.lax.psum(x, parallel.AXIS)


def test_pmap_averages_over_its_axis():
  step = parallel.pmap(_add, in_axes=(None, 0))
  np.testing.assert_array_equal(step(1.0, jnp.arange(8.0)), np.full(8, 29.0))


@pytest.mark.parametrize('second', [
    np.ones((8, 3), np.float32), np.ones((8, 2), np.int32),
    {'a': np.ones((8, 2), np.float32)}])
def test_a_second_trace_is_refused(second):
  """Another shape, type or structure would mean another compilation."""
  step = parallel.pmap(lambda x: jax.tree.map(jnp.sin, x))
  first = np.ones((8, 2), np.float32)
  step(first)
  step(2 * first)  # other values are welcome
  with pytest.raises(RuntimeError, match='traced twice'):
    step(second)


def test_the_refusal_names_the_function():
  step = parallel.pmap(_add, in_axes=(None, 0))
  step(1.0, np.ones(8))
  with pytest.raises(RuntimeError, match='_add'):
    step(1.0, np.ones((8, 2)))


def test_two_pmaps_of_one_function_do_not_share_their_count():
  for _ in range(2):
    parallel.pmap(_add, in_axes=(None, 0))(1.0, np.ones(8))


def test_replicate_and_unreplicate():
  tree = {'a': np.arange(6.0).reshape(2, 3), 'b': (np.int32(4),)}
  copies = parallel.replicate(tree)
  assert copies['a'].shape == (8, 2, 3) and copies['b'][0].shape == (8,)
  assert len(copies['a'].sharding.device_set) == 8
  np.testing.assert_array_equal(copies['a'][7], tree['a'])
  back = parallel.unreplicate(copies)
  jax.tree.map(np.testing.assert_array_equal, back, tree)
  assert isinstance(back['a'], np.ndarray)
  assert back['b'][0].dtype == np.int32


def test_some_of_the_devices():
  devices = jax.devices()[:2]
  assert parallel.local_count(devices) == 2
  assert parallel.local_count() == 8
  copies = parallel.replicate(np.ones(3), devices)
  assert copies.sharding.device_set == set(devices)


def test_state_from_replicate_and_from_a_step_look_the_same():
  step = parallel.pmap(lambda x: x + 1)
  state = parallel.replicate(np.zeros(2, np.float32))
  after = step(state)
  assert after.sharding == state.sharding
  np.testing.assert_array_equal(step(after)[3], [2, 2])


def test_shard_cuts_rows_in_order():
  batch = {'image': np.arange(32).reshape(16, 2), 'label': np.arange(16)}
  shards = parallel.shard(batch)
  assert shards['image'].shape == (8, 2, 2)
  np.testing.assert_array_equal(shards['label'][3], [6, 7])
  assert parallel.shard(batch, jax.devices()[:4])['label'].shape == (4, 4)


@pytest.mark.parametrize('count', [0, 1, 5])
def test_prefetch_keeps_order_and_loses_nothing(count):
  batches = ({'x': np.full(16, i)} for i in range(count))
  seen = list(parallel.prefetch(batches))
  assert [int(b['x'][0, 0]) for b in seen] == list(range(count))
  for batch in seen:
    assert batch['x'].shape == (8, 2)
    assert len(batch['x'].sharding.device_set) == 8
