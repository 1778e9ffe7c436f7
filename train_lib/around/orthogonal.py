# SPDX-License-Identifier: Apache-2.0
"""Links of the optimizer chain that keep updates out of a subspace.

They read `memory['pgp'][NAME]['active']`, bases F [D, cap] with zeros in unused
columns, and record what they did in their states.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from promptcl.models.parts import base
from promptcl.train_lib.core.state import TrainState

Array = jax.Array
MEMORY = 'pgp'


class Removed(NamedTuple):
  """Sum over steps of the share of gradient energy removed, by space."""

  steps: Array
  shares: dict[str, Array]


class Leaked(NamedTuple):
  """Sum over steps of the share of a step that lies in the basis, by space."""

  steps: Array
  shares: dict[str, Array]


Record = Removed | Leaked


def project_gradients(spaces: Sequence[base.Space]
                      ) -> optax.GradientTransformationExtraArgs:
  """g <- g - (g F) F^T for all rows of all spaces; wants `memory`.

  A basis without columns changes nothing, not a bit.
  """
  def update(updates, state, params=None, *, memory, **unused):
    del params, unused
    shares = {}
    for space in spaces:
      basis, rows = memory[MEMORY][space.name]['active'], space.rows(updates)
      shares[space.name] = share_inside(rows, basis)
      updates = space.with_rows(updates, [outside(r, basis) for r in rows])
    return updates, _added(state, shares)

  return optax.GradientTransformationExtraArgs(
      lambda params: _nothing(Removed, spaces), update)


def measure_steps(spaces: Sequence[base.Space], *, project: bool
                  ) -> optax.GradientTransformationExtraArgs:
  """How much of the optimizer's steps lies in the bases; wants `memory`.

  With `project` the steps are projected before.
  """
  def update(updates, state, params=None, *, memory, **unused):
    del params, unused
    shares = {}
    for space in spaces:
      basis = memory[MEMORY][space.name]['active']
      if project:
        updates = space.with_rows(
            updates, [outside(r, basis) for r in space.rows(updates)])
      shares[space.name] = share_inside(space.rows(updates), basis)
    return updates, _added(state, shares)

  return optax.GradientTransformationExtraArgs(
      lambda params: _nothing(Leaked, spaces), update)


def outside(rows: Array, basis: Array) -> Array:
  """The part of rows [..., D] that is orthogonal to F [D, cap]."""
  inside = jnp.matmul(rows, basis, precision='highest')
  return rows - jnp.matmul(inside, basis.T, precision='highest')


def share_inside(rows: Sequence[Array], basis: Array) -> Array:
  """||g F||^2 / ||g||^2 over all rows together; 0 where g is 0."""
  inside = sum(jnp.sum(jnp.square(jnp.matmul(r, basis, precision='highest')))
               for r in rows)
  total = sum(jnp.sum(jnp.square(r)) for r in rows)
  return jnp.where(total > 0, inside / jnp.where(total > 0, total, 1.0), 0.0)


def scalars(state: TrainState) -> dict[str, float]:
  """What a task's projection did, for the log.

  `pgp_rank_NAME`: columns that projected; `pgp_removed_NAME`: share of gradient
  energy they took, mean over steps; `pgp_angle_NAME`: degrees between the
  optimizer's step and the protected space (root mean square of the cosine over
  steps), 90 if it keeps clear of it.  State on the host.
  """
  found = {}
  for name, basis in state.memory[MEMORY].items():
    rank = np.count_nonzero(np.any(np.asarray(basis['active']) != 0, axis=0))
    found[f'pgp_rank_{name}'] = float(rank)
  for name, share in mean_shares(
      Removed, state.opt_state).items():
    found[f'pgp_removed_{name}'] = share
  for name, share in mean_shares(
      Leaked, state.opt_state).items():
    cosine = np.sqrt(min(share, 1.0))
    found[f'pgp_angle_{name}'] = float(np.degrees(np.arccos(cosine)))
  return found


def zeroed(opt_state: optax.OptState) -> optax.OptState:
  """The optimizer's state with records that start anew."""
  return jax.tree.map(
      lambda node: jax.tree.map(np.zeros_like, node) if _is_record(node)
      else node, opt_state, is_leaf=_is_record)


def mean_shares(kind: type[Record], opt_state: optax.OptState
                ) -> dict[str, float]:
  """Means over steps; none before the first step."""
  return {name: float(share) / float(node.steps)
          for node in jax.tree.leaves(opt_state, is_leaf=_is_record)
          if isinstance(node, kind) and node.steps > 0
          for name, share in node.shares.items()}


def _nothing(kind: type[Record], spaces: Sequence[base.Space]) -> Record:
  return kind(jnp.zeros(()), {space.name: jnp.zeros(()) for space in spaces})


def _added(state: Record, shares: dict[str, Array]) -> Record:
  return type(state)(state.steps + 1, {
      name: state.shares[name] + share for name, share in shares.items()})


def _is_record(node: object) -> bool:
  return isinstance(node, (Removed, Leaked))
