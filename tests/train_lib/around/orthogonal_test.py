# SPDX-License-Identifier: Apache-2.0
"""Links of the optimizer chain that keep updates out of a subspace."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from promptcl.models.parts import base
from promptcl.train_lib.around import orthogonal
from promptcl.train_lib.steps import optimizer as optimizer_lib
from tests.helpers import fakes

SPACES = (base.Space('layer_1', 'prefix', (('g', (0, 0)), ('e', (1, 0)))),
          base.Space('keys', 'key', (('key', ()),)))
WIDTH = 6


def _rows(seed=0):
  rng = np.random.default_rng(seed)
  shapes = {'g': (2, 2, 3, WIDTH), 'e': (2, 2, 4, 3, WIDTH),
            'key': (5, WIDTH), 'head': (WIDTH, 3)}
  return {path: rng.normal(size=shape).astype(np.float32)
          for path, shape in shapes.items()}


def _memory(**ranks):
  """Bases in 4 of whose columns there is room."""
  found = {}
  for seed, space in enumerate(SPACES):
    basis = np.zeros((WIDTH, 4), np.float32)
    rank = ranks.get(space.name, 0)
    random = np.random.default_rng(seed).normal(size=(WIDTH, WIDTH))
    basis[:, :rank] = np.linalg.qr(random)[0][:, :rank]
    found[space.name] = {'active': basis}
  return {'pgp': found}


def _project(updates, memory, times=1):
  link = orthogonal.project_gradients(SPACES)
  state = link.init(updates)
  for _ in range(times):
    out, state = link.update(updates, state, memory=memory)
  return out, state


def test_nothing_is_left_inside_and_nothing_else_is_touched():
  rows, memory = _rows(), _memory(layer_1=3, keys=2)
  out, _ = _project(rows, memory)
  basis = memory['pgp']['layer_1']['active']
  for path, index in SPACES[0].leaves:
    np.testing.assert_allclose(out[path][index] @ basis, 0, atol=1e-6)
    expected = rows[path][index] @ (np.eye(WIDTH) - basis @ basis.T)
    np.testing.assert_allclose(out[path][index], expected, atol=1e-6)
  np.testing.assert_allclose(
      out['key'] @ memory['pgp']['keys']['active'], 0, atol=1e-6)
  untouched = np.ones((2, 2), bool)
  untouched[0, 0] = False
  np.testing.assert_array_equal(out['g'][untouched], rows['g'][untouched])
  np.testing.assert_array_equal(out['e'][0], rows['e'][0])
  np.testing.assert_array_equal(out['e'][1, 1], rows['e'][1, 1])
  np.testing.assert_array_equal(out['head'], rows['head'])


def test_an_empty_basis_changes_no_bit():
  rows = _rows()
  out, state = jax.jit(_project)(rows, _memory())
  jax.tree.map(np.testing.assert_array_equal, out, rows)
  assert not any(state.shares.values())


def test_rows_without_gradient_stay_at_zero():
  rows = jax.tree.map(np.zeros_like, _rows())
  out, state = _project(rows, _memory(layer_1=3, keys=4))
  jax.tree.map(np.testing.assert_array_equal, out, rows)
  assert state.shares['keys'] == 0


def test_the_share_that_is_removed():
  memory, rows = _memory(), _rows()
  memory['pgp']['keys']['active'][2, 0] = 1  # third coordinate
  rows['key'][:] = 0
  rows['key'][0] = [0, 0, 3, 4, 0, 0]
  _, state = _project(rows, memory, times=3)
  assert orthogonal.mean_shares(orthogonal.Removed, (state,)) == {
      'layer_1': 0.0, 'keys': pytest.approx(9 / 25)}
  assert orthogonal.mean_shares(orthogonal.Leaked, (state,)) == {}
  emptied = orthogonal.zeroed((state, {'other': 5}))
  assert emptied[0].steps == 0 and not emptied[0].shares['keys']
  assert emptied[1] == {'other': 5}
  assert orthogonal.mean_shares(orthogonal.Removed, emptied) == {}


@pytest.mark.parametrize('project', [False, True])
def test_clip_then_project_then_adam_whose_steps_leak(project):
  """One step by hand: Adam's first one is the sign of the gradient."""
  config = fakes.config(grad_clip_max_norm=0.5)
  rows, memory = _rows(), _memory(layer_1=3, keys=2)
  chain = optimizer_lib.create(
      config, orthogonal.project_gradients(SPACES),
      orthogonal.measure_steps(SPACES, project=project))
  norm = float(optax.tree.norm(rows))
  update = jax.jit(functools.partial(chain.update, memory=memory))
  out, state = update(rows, chain.init(rows), rows, grad_norm=norm,
                      learning_rate=0.1)
  basis = memory['pgp']['keys']['active']
  seen = rows['key'] * 0.5 / norm @ (np.eye(WIDTH) - basis @ basis.T)
  step = np.sign(seen)
  leak = orthogonal.mean_shares(orthogonal.Leaked, state)['keys']
  if project:
    step = step @ (np.eye(WIDTH) - basis @ basis.T)
    assert leak < 1e-10
  else:
    assert leak == pytest.approx(
        np.sum(np.square(step @ basis)) / step.size, rel=1e-4)
    assert leak > 0.01
  np.testing.assert_allclose(out['key'], -0.1 * step, atol=1e-4)
  removed = orthogonal.mean_shares(orthogonal.Removed, state)['keys']
  assert removed == pytest.approx(
      np.sum(np.square(rows['key'] @ basis)) / np.sum(np.square(rows['key'])),
      rel=1e-4)


def test_a_chain_without_a_step_link_is_what_it_was():
  config = fakes.config()
  plain = optimizer_lib.create(config, optax.identity())
  assert len(plain.init({'a': jnp.zeros(2)})) == 6
