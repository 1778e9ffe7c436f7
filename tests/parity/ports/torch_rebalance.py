# SPDX-License-Identifier: Apache-2.0
"""Re-balancing of the classifier, with recorded draws."""

import dataclasses
from typing import Any

import jax
import numpy as np

from promptcl.models.parts import class_statistics
from promptcl.train_lib import program as program_lib
from promptcl.train_lib.around import rebalancing
from promptcl.train_lib.core import parallel
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.steps import train_step as steps
from tests.parity import tolerances as tol
from tests.parity.fixture import Fixture
from tests.parity.ports import torch_bridge as bridge
from tests.parity.ports import torch_vq_bridge as vq_bridge
from tests.parity.report import Report

# It was recorded as a difference of variances, each of them rounded.
_ADDED = tol.Tolerance(1e-6)


def run(fixture: Fixture, report: Report) -> None:
  """All steps of the last task's phase."""
  report.compare(
      'covariance_added', np.full_like(
          fixture['covariance_added'], class_statistics.ADDED_VARIANCE),
      fixture['covariance_added'], _ADDED)
  _Trial(fixture, report).run()


class _Shuffled:
  """A generator whose permutation is a recorded one."""

  def __init__(self, rows: np.ndarray):
    self._rows = rows

  def permutation(self, count: int) -> np.ndarray:
    """The recorded rows; there must be as many of them."""
    if count != len(self._rows):
      raise ValueError(f'{count} rows are drawn, {len(self._rows)} recorded')
    return self._rows


class _Trial:
  """The phase of one file."""

  def __init__(self, fixture: Fixture, report: Report):
    self._fixture, self._report, self._meta = fixture, report, fixture.meta
    sizes = self._meta['config']
    self._size = len(fixture['iteration0/labels'])  # rows of a step
    self._config = vq_bridge.expand(self._meta, **{
        'per_device_batch_size': self._size, 'rebalance.batch_ratio': 1,
        'rebalance.clusters': fixture['means'].shape[1],
        'rebalance.epochs': sizes['crct_epochs'],
        'rebalance.learning_rate': sizes['ca_lr'],
        'rebalance.weight_decay': sizes['ca_wd']})
    self._program = vq_bridge.program(self._meta, self._config)
    self._devices = jax.local_devices()[:1]
    method = self._program.method
    self._learning = dataclasses.replace(
        method.learning[rebalancing.KIND], loss=_with_recorded_draws(method))
    self._phase_config = program_lib.config_of(self._config, self._learning)
    *old, self._seen = np.cumsum([0, *map(len, self._meta['class_mask'])])
    self._num_batches = int(old[-1])

  def run(self) -> None:
    """All epochs from the recorded weights and statistics."""
    state, epochs = self._start(), self._meta['config']['crct_epochs']
    stats, number = state.memory[rebalancing.MEMORY]['statistics'], 0
    step = parallel.pmap(self._train, in_axes=(0, 0, None),
                         devices=self._devices)
    for epoch in range(epochs):
      rows = self._rows(stats, f'epoch{epoch}')
      for i in range(self._num_batches):
        batch = {name: x[i] for name, x in rows.items()}
        seen, state = parallel.unreplicate(step(
            parallel.replicate(state, self._devices),
            parallel.shard(batch, self._devices), self._info()))
        self._compare(number, batch, seen, state)
        number += 1
    self._report.compare('iterations', number,
                         np.int32(self._meta['iterations']))

  def _start(self) -> state_lib.TrainState:
    head = vq_bridge.own(bridge.leaves(self._fixture))
    method = self._program.method
    state = state_lib.create(head, method, program_lib.optimizer_of(
        self._phase_config, method))
    spread = self._fixture['variances']
    memory = {'statistics': {
        'mean': self._fixture['means'], 'variance': spread,
        'count': np.ones(spread.shape[:2], np.int32)},
              'seen': np.arange(len(spread)) < self._seen}
    return state.replace(memory={rebalancing.MEMORY: memory})

  def _rows(self, stats: Any, name: str) -> dict[str, np.ndarray]:
    """Ours of an epoch, beside the numbers recorded for the very rows."""
    shuffled = self._fixture[f'{name}/permutation']
    rows = rebalancing.epoch_rows(
        _Shuffled(shuffled), stats, range(self._seen), size=self._size,
        num_batches=self._num_batches)
    normals = self._fixture[f'{name}/standard_normals'][shuffled]
    shape = (self._num_batches, self._size, normals.shape[1])
    return rows | {'normals': np.resize(normals, shape)}

  def _info(self) -> steps.TaskInfo:
    return steps.TaskInfo.create(
        len(self._meta['class_mask']) - 1, np.zeros(self._seen, bool),
        first_step=0, steps_per_epoch=self._num_batches)

  def _train(self, state, batch, task):
    """What the recorded names say, and the state after a real step."""
    program, config = self._program, self._phase_config
    parts = config, program.model, program.method
    step = steps.make_train_step(
        *parts, program_lib.optimizer_of(config, program.method),
        metrics=vq_bridge.NoMetrics, learning=self._learning,
        global_batch_size=self._learning.batch_size)
    loss, logits, grads, *_ = steps.make_gradients(*parts, self._learning)(
        state, {}, batch, task)
    inputs = class_statistics.draw(
        state.memory[rebalancing.MEMORY]['statistics'], batch['label'],
        batch['slot'], batch['normals'])
    seen = dict(inputs=inputs, loss=loss, logits=logits, grads=grads)
    return seen, step(state, {}, batch, task)[0]

  def _compare(self, number: int, batch: Any, seen: Any, state: Any) -> None:
    """One step."""
    name, grads = f'iteration{number}', seen.pop('grads')
    rates = vq_bridge.rates(
        self._phase_config, state.params, number + 1,
        batch_size=self._learning.batch_size,
        steps_per_epoch=self._num_batches)
    got = {'labels': batch['label'], 'lr': rates['head/kernel'],
           'grad_weight': grads['head/kernel'].T,
           'grad_bias': grads['head/bias'],
           'weight': state.params['head/kernel'].T,
           'bias': state.params['head/bias'], **seen,
           'logits': seen['logits'][:, :self._seen]}
    for array, value in got.items():
      self._report.compare(
          f'{name}/{array}', value, self._fixture[f'{name}/{array}'],
          _TOLERANCE[array])


def _with_recorded_draws(method: Any) -> Any:
  """The loss of the phase, given numbers in place of keys to draw them."""
  loss = method.learning[rebalancing.KIND].loss
  return lambda context: loss(context.replace(keys=context.batch['normals']))


_TOLERANCE = {
    'labels': tol.EXACT, 'lr': tol.RATE, 'inputs': tol.FEATURES,
    'logits': tol.PORT_LOGITS, 'loss': tol.PORT_LOSS,
    'grad_weight': tol.GRADIENT, 'grad_bias': tol.GRADIENT,
    'weight': tol.PORT_PARAMS, 'bias': tol.PORT_PARAMS}
