# SPDX-License-Identifier: Apache-2.0
"""One training step of gradient projection, link by link, and evaluation."""

import dataclasses
from typing import Any

import jax
import numpy as np

from promptcl.models.parts import base
from promptcl.train_lib.core import parallel
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.steps import losses
from promptcl.train_lib.steps import optimizer as optimizer_lib
from promptcl.train_lib.steps import train_step as steps
from tests.parity import observation
from tests.parity import tolerances as tol
from tests.parity.fixture import Fixture
from tests.parity.ports import torch_bridge as bridge
from tests.parity.report import Report

_TOLERANCE = {
    'prompt_idx': tol.EXACT, 'query': tol.FEATURES,
    'similarity': tol.PORT_SIMILARITY, 'reduce_sim': tol.PORT_SIMILARITY,
    'logits': tol.PORT_LOGITS, 'cross_entropy': tol.PORT_LOSS,
    'loss': tol.PORT_LOSS, 'grad_norm': tol.NORM}


@dataclasses.dataclass(frozen=True)
class Task:
  """What hooks and steps want to know of a recorded task."""

  index: int
  class_mask: np.ndarray
  num_examples: int


class Steps:
  """The compiled steps over the batch sizes of a file."""

  def __init__(self, fixture: Fixture, report: Report, prefix: str,
               program: Any, frozen: Any, devices: Any):
    self._fixture, self._report, self._prefix = fixture, report, prefix
    self._program, self._frozen, self._devices = program, frozen, devices
    self._compiled: dict[Any, Any] = {}

  def train(self, state: Any, task: Task, i: int) -> Any:
    """Compares a training step; returns the state after it, on the host."""
    name = f'task{task.index}/step{i}'
    batch = {'image': bridge.pictures(self._fixture[f'{name}/images']),
             'label': self._fixture[f'{name}/labels']}
    info = steps.TaskInfo.create(
        task.index, task.class_mask, first_step=0, steps_per_epoch=1)
    seen, after = self._run('train', state, batch, info)
    name = self._prefix + name
    for array in _TOLERANCE:
      self._compare(f'{name}/{array}', seen[array])
    for stage in 'grad', 'grad_clipped', 'grad_projected':
      want = bridge.trainable(self._fixture, f'{name}/{stage}')
      if want:
        self._report.compare_tree(f'{name}/{stage}/*', seen[stage], want,
                                  tol.GRADIENT)
    want = bridge.trainable(self._fixture, f'{name}/params')
    self._report.compare_tree(f'{name}/params/*', after.params, want,
                              tol.PORT_PARAMS)
    return after

  def evaluate(self, state: Any, t: int, j: int) -> float:
    """Compares the batches of task j after task t; their accuracy, percent."""
    correct, total = 0, 0
    for b in range(2):
      images = self._fixture[f'task{j}/val{b}/images']
      labels = self._fixture[f'task{j}/val{b}/labels']
      name = f'{self._prefix}task{t}/eval/task{j}/val{b}'
      seen = self._run('evaluate', state, {'image': bridge.pictures(images)})
      for array in 'logits', 'prompt_idx', 'reduce_sim':
        self._compare(f'{name}/{array}', seen[array])
      correct += np.sum(seen['logits'].argmax(-1) == labels)
      total += len(labels)
    return 100 * correct / total

  def _compare(self, name: str, got: Any) -> None:
    array, through = name.split('/')[-1], lambda want: want
    if array == 'prompt_idx':  # prompts with equally many votes have no order
      through = lambda indices: np.sort(indices, axis=1)
    self._report.compare(name, through(got), self._fixture[name],
                         _TOLERANCE[array], through=through)

  def embedded_choice(self, state: Any, images: np.ndarray) -> np.ndarray:
    """Prompts [n, K] by the maximum over embedded tokens, image by image."""
    return self._run('choose', state, {'image': images})

  def _run(self, name: str, state: Any, batch: Any, *more: Any) -> Any:
    """A step of that name on one device, compiled for each batch size."""
    key = name, len(batch['image'])
    if key not in self._compiled:
      self._compiled[key] = parallel.pmap(
          getattr(self, f'_{name}'), in_axes=(0, 0, 0) + (None,) * len(more),
          devices=self._devices)
    return parallel.unreplicate(self._compiled[key](
        parallel.replicate(state, self._devices), self._frozen,
        parallel.shard(batch, self._devices), *more))

  def _train(self, state, frozen, batch, task):
    """What the recorded names say, and the state after a real step."""
    program = self._program
    config, model, method = program.config, program.model, program.method
    step = observation.train_step(
        config, model, method, program.optimizer, metrics=_NoMetrics,
        global_batch_size=np.ravel(self._fixture.meta['config']['batch'])[0])
    found, (after, _) = step(state, frozen, batch, task)
    grads, out = found['grads'], found['out']
    norm = jax.numpy.sqrt(sum(
        jax.numpy.sum(jax.numpy.square(g)) for g in grads.values()))
    clip = optimizer_lib.clip_by_given_norm(config.grad_clip_max_norm)
    clipped, _ = clip.update(grads, clip.init(grads), grad_norm=norm)
    projected, _ = method.transform.update(
        clipped, method.transform.init(grads), memory=state.memory)
    seen = dict(
        query=found['query'].cls, similarity=out.selection.similarity,
        prompt_idx=out.selection.indices,
        reduce_sim=-out.selection.losses['pull'], logits=out.logits,
        cross_entropy=losses.mean_loss(found['logits'], batch),
        loss=found['loss'],
        grad_norm=norm, grad=grads, grad_clipped=clipped,
        grad_projected=projected)
    return seen, after

  def _evaluate(self, state, frozen, batch):
    model = self._program.model
    params = state_lib.variables(state_lib.overlay(frozen, state.params))
    out = model.apply(
        params, batch['image'], steps.make_query(model)(frozen, batch['image']),
        np.int32(-1), train=False)
    return dict(logits=out.logits, prompt_idx=out.selection.indices,
                reduce_sim=-out.selection.losses['pull'])

  def _choose(self, state, frozen, batch):
    model = self._program.model
    params = state_lib.variables(state_lib.overlay(frozen, state.params))
    embedded = model.apply(params, batch['image'],
                           method=lambda m, x: m.backbone(x)).block_inputs[0]
    _, selection = model.apply(
        params, batch['image'], base.Query(cls=embedded.max(1)), np.int32(-1),
        train=False, vote=False, method='select')
    return selection.indices


class _NoMetrics:
  """Stands where the metrics of a step are made."""

  @classmethod
  def gather_from_model_output(cls, **values):
    """Makes none."""
    del values
