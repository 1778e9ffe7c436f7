# SPDX-License-Identifier: Apache-2.0
"""What hooks learn about the model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from promptcl.train_lib import probe as probe_lib
from promptcl.train_lib import train
from promptcl.train_lib.core import parallel
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.steps import fisher
from tests.helpers import fakes

pytestmark = pytest.mark.slow


def _setting(folder, devices, **changes):
  """(program, stream, frozen, host state, probe) with random parameters.

  38 images a task, so that the last batch of 8 has padding.
  """
  config = fakes.config(
      folder, dataset=fakes.write_data(folder / 'few.npz', train_per_class=19),
      **changes)
  program, stream = train.prepare(config)
  *_, frozen, state = fakes.start(config)
  probe = probe_lib.Probe(
      program, stream, parallel.replicate(frozen, devices), devices)
  return program, stream, frozen, state, probe


def _head_fisher(program, stream, params, task, classes):
  """By hand: the gradient of log p at class c is (1[c = y] - p_c) x."""
  total = 0
  run = jax.jit(lambda images: program.model.apply(
      params, images, program.model.apply(params, images, method='query'),
      jnp.int32(0), train=False))
  for batch in stream.clean_batches(task):
    real = batch['mask'] > 0
    out = run(batch['image'])
    logits = np.array(out.logits, np.float64)[real]
    logits[:, ~np.isin(np.arange(fakes.NUM_CLASSES), classes)] = -np.inf
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    signal = np.eye(fakes.NUM_CLASSES)[batch['label'][real]] - p
    x = np.array(out.pre_logits, np.float64)[real]
    total += np.einsum('bd,bc->dc', x**2, signal**2)
  return total / 38


@pytest.mark.parametrize('num_devices', [1, 8])
@pytest.mark.parametrize('train_mask', [True, False])
def test_squared_gradients_of_a_linear_head_by_hand(
    tmp_path, train_mask, num_devices):
  program, stream, frozen, state, probe = _setting(
      tmp_path, jax.devices()[:num_devices], method='none',
      vit_classifier='token', **{'continual.train_mask': train_mask})
  assert set(state.params) == {'head/kernel', 'head/bias'}
  task = stream.tasks[1]
  found = probe.at(task).squared_gradients(state)
  params = state_lib.variables(state_lib.overlay(frozen, state.params))
  expected = _head_fisher(program, stream, params, task,
                          (2, 3) if train_mask else range(6))
  np.testing.assert_allclose(found['head/kernel'], expected, rtol=1e-3)
  assert np.any(found['head/kernel'][:, [0, 1, 4, 5]]) != train_mask


def test_the_batch_does_not_matter_with_a_vote_and_nothing_compiles_twice(
    tmp_path):
  found = []
  for count in (1, 8):
    *_, stream, _, state, probe = _setting(
        tmp_path, jax.devices()[:count],
        **{'prompt_pool_param.pool_size': 6})
    for task in stream.tasks[:2]:  # `parallel.pmap` refuses a second trace
      squares = probe.at(task).squared_gradients(state)
    found.append(squares)
  assert set(found[0]) == set(state.params)
  for path, leaf in found[0].items():
    assert leaf.shape == state.params[path].shape
    assert leaf.dtype == np.float32
    np.testing.assert_allclose(leaf, found[1][path], rtol=1e-3, atol=1e-7)


def test_no_more_images_at_once_than_their_gradients_fit():
  limit = fisher._MAX_VALUES
  few, many = np.zeros(10), np.broadcast_to(0.0, (limit,))
  assert fisher.rows_at_once(12, {'a': few, 'b': few}) == 12
  assert fisher.rows_at_once(12, {'a': many, 'b': few}) == 1
  fifth = np.broadcast_to(0.0, (limit // 5,))
  assert fisher.rows_at_once(12, {'a': fifth}) == 4  # divides 12, 5 do not
