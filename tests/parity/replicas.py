# SPDX-License-Identifier: Apache-2.0
"""The real steps on as many devices as a file asks for."""

from collections.abc import Mapping
import functools
from typing import Any

import jax
import numpy as np
import optax

from promptcl.train_lib.core import parallel
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.program import Program
from promptcl.train_lib.steps import eval_step as eval_step_lib
from promptcl.train_lib.steps import optimizer as optimizer_lib
from promptcl.train_lib.steps import train_metrics
from promptcl.train_lib.steps import train_step as steps
from tests.parity import observation
from tests.parity.fixture import Unsupported

# The original's names of an optimizer's arrays -> fields of ours.
MOMENTS = {'grad_ema': 'mu', 'grad_sq_ema': 'nu', 'momentum': 'trace'}


class Replicas:
  """Replicated parameters and the compiled steps over them.

  Attributes:
    program: what the steps are made of.
    devices: the D devices.
    frozen: replicated.
    state: replicated train state; may be set.
  """

  def __init__(self, program: Program, params: Mapping[str, np.ndarray], *,
               devices: int, step: int = 0, global_batch_size: int = 0):
    """State before the first step, whose number is `step` + 1.

    Raises:
      Unsupported: there are fewer devices.
    """
    have = jax.local_device_count()
    if devices > have:
      raise Unsupported(f'needs {devices} devices, there are {have}')
    self.program = program
    self.devices = jax.local_devices()[:devices]
    self._global_batch_size = global_batch_size
    frozen, trainable = program.split(params)
    state = state_lib.create(trainable, program.method, program.optimizer)
    self.frozen = parallel.replicate(frozen, self.devices)
    self.set_state(state.replace(step=np.int32(step)))

  def set_state(self, state: state_lib.TrainState) -> None:
    """Takes an unreplicated state."""
    self.state = parallel.replicate(state, self.devices)

  def host_state(self) -> state_lib.TrainState:
    """The state, unreplicated."""
    return parallel.unreplicate(self.state)

  def train(self, batch: Any, task: steps.TaskInfo
            ) -> tuple[dict[str, Any], train_metrics.TrainMetrics]:
    """One training step on a batch [D, B, ...].

    Returns:
      What the step saw, and its metrics.  Seen are `grads` {path: array}: mean
      over devices, of every leaf that the clip norm counts; per device
      `logits` [D, B, C] before the class mask, `prompt_idx` [D, B, K] and
      `reduce_sim` [D] (absent without a pool).
    """
    seen, (self.state, metrics) = self._train_step(
        self.state, self.frozen, batch, task)
    seen = jax.device_get(seen)
    seen['grads'] = jax.tree.map(lambda g: g[0], seen['grads'])
    return seen, parallel.unreplicate(metrics)

  def evaluate(self, batch: Any, task: steps.TaskInfo) -> dict[str, Any]:
    """What the evaluation step says of a batch [D, B, ...], and its logits.

    Returns:
      Its output with sums over devices; per device `indices` [D, B, K] and
      `logits` [D, B, C] before any mask.
    """
    sums, logits = jax.device_get(
        self._eval_step(self.state, self.frozen, batch, task))
    indices = sums.pop('indices')
    return {**jax.tree.map(lambda x: x[0], sums), 'indices': indices,
            'logits': logits}

  @functools.cached_property
  def _train_step(self):
    p = self.program
    step = observation.train_step(
        p.config, p.model, p.method, p.optimizer,
        global_batch_size=self._global_batch_size)

    def train(state, frozen, batch, task):
      found, after = step(state, frozen, batch, task)
      out = found['out']
      seen = dict(grads=found['grads'], logits=out.logits)
      if out.selection.indices is not None:
        seen['prompt_idx'] = out.selection.indices
        seen['reduce_sim'] = -out.selection.losses['pull']
      return seen, after

    return self._pmap(train)

  @functools.cached_property
  def _eval_step(self):
    config, model = self.program.config, self.program.model
    query_fn = steps.make_query(model)

    def evaluate(state, frozen, batch, task):
      passes, listening = observation.listen(model)
      eval_step = eval_step_lib.make_eval_step(config, listening)
      everything = np.ones(task.class_mask.shape, bool)
      sums = eval_step(state, frozen, batch, query_fn(frozen, batch['image']),
                       task, everything, True)
      return sums, passes[0][0].logits

    return self._pmap(evaluate)

  def _pmap(self, step):
    return parallel.pmap(step, in_axes=(0, 0, 0, None), devices=self.devices)


class FrozenMoments:
  """Moments of the frozen leaves.

  The original's optimizer keeps moments of every leaf, ours of those that
  train.  The same chain is run here over the others, for their norms.
  """

  def __init__(self, program: Program, params: Mapping[str, np.ndarray]):
    frozen, trainable = program.split(params)
    self._leaves = {k: v for k, v in frozen.items() if k not in trainable}
    self._optimizer = optimizer_lib.create(program.config, optax.identity())
    self._update = jax.jit(functools.partial(
        self._optimizer.update, learning_rate=0.0, memory={}))
    self.reset()

  def reset(self) -> None:
    """A new optimizer."""
    self._state = self._optimizer.init(self._leaves)

  def step(self, grads: Mapping[str, np.ndarray]) -> None:
    """Takes the gradients of all leaves."""
    self._state = self._update(
        {path: grads[path] for path in self._leaves}, self._state,
        self._leaves, grad_norm=l2(grads))[1]

  def l2(self, state: state_lib.TrainState, name: str) -> np.float32:
    """Norm of moment `name` over frozen and, from `state`, other leaves."""
    return l2({**moment(self._state, name), **moment(state.opt_state, name)})


def counter(state: state_lib.TrainState, first_step: int) -> int:
  """The optimizer's own counter; one that keeps none (SGD): steps since."""
  count = optax.tree_utils.tree_get(state.opt_state, 'count')
  return int(state.step) - first_step if count is None else int(count)


def moment(state: Any, name: str) -> Mapping[str, np.ndarray] | None:
  """{path: array} of the original's moment `name`, None where there is none."""
  field = MOMENTS.get(name)
  return field and optax.tree_utils.tree_get(state, field)


def l2(leaves: Mapping[str, np.ndarray]) -> np.float32:
  """Root of the sum of squares over all leaves."""
  return np.float32(np.sqrt(sum(
      np.sum(np.square(leaf, dtype=np.float64)) for leaf in leaves.values())))
