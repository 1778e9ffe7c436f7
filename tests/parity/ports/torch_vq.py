# SPDX-License-Identifier: Apache-2.0
"""VQ-Prompt: its module, its schedules, and two tasks of training."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from promptcl import configs
from promptcl.models.parts import base
from promptcl.models.prompts import vq_prompt
from promptcl.train_lib.core import parallel
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.steps import train_step as steps
from tests.parity import observation
from tests.parity import tolerances as tol
from tests.parity.fixture import Fixture
from tests.parity.ports import torch_bridge as bridge
from tests.parity.ports import torch_vq_bridge as vq_bridge
from tests.parity.report import Report

Array = jax.Array
_TOLERANCE = {
    'weights': tol.PORT_SIMILARITY, 'index': tol.EXACT,
    'key_prefix': tol.PORT_PARAMS, 'value_prefix': tol.PORT_PARAMS,
    'loss': tol.PORT_LOSS, 'prompt_loss': tol.PORT_LOSS,
    'grad_loss_p': tol.GRADIENT, 'grad_loss_k': tol.GRADIENT,
    'grad_readout_p': tol.READOUT_GRADIENT,
    'grad_readout_k': tol.READOUT_GRADIENT, 'query': tol.FEATURES,
    'features': tol.FEATURES, 'eval_features': tol.FEATURES,
    'logits_train': tol.PORT_LOGITS, 'logits_eval': tol.PORT_LOGITS,
    'logits_all': tol.PORT_LOGITS, 'eval_logits': tol.PORT_LOGITS,
    'lr': tol.RATE}
_NOISE = 1e-6  # gradients below it tell Adam no direction


def run_forward(fixture: Fixture, report: Report) -> None:
  """The module alone, the whole model, and the released schedules."""
  for layer in fixture.meta['layers']:
    _compare(fixture, report, f'module/layer{layer}', _module(fixture, layer))
  _compare(fixture, report, 'model', _model(fixture))
  _released(fixture, report)


def _compare(fixture: Fixture, report: Report, name: str, got: Any) -> None:
  for array, value in got.items():
    report.compare(f'{name}/{array}', value, fixture[f'{name}/{array}'],
                   _TOLERANCE[array.split('/')[-1]])


def _module(fixture: Fixture, layer: int) -> dict[str, Array]:
  """One block's keys and pool on given queries."""
  config = vq_bridge.expand(fixture.meta, **{'vq.layers': (layer,)})
  method = vq_prompt.build(config, bridge.backbone(fixture.meta), None)
  params = {path.removeprefix('prompt/'): leaf for path, leaf in vq_bridge.own(
      bridge.leaves(fixture), [layer]).items() if path.startswith('prompt/')}
  width = params['keys'].shape[-1]
  queries, readout = fixture['queries'], np.linspace(
      -1, 1, config.vq.length // 2 * width, dtype=np.float32)

  def run(params):
    apply = lambda *args, **options: method.prompt.apply(
        {'params': params}, *args, **options)
    chosen = apply(base.Query(cls=queries), jnp.int32(-1), train=True,
                   method='select')
    prompt, _ = apply(layer, queries[:, None], chosen.carry, method='at_layer')
    halves = prompt.prefix.reshape(len(queries), 2, -1, width)
    loss = vq_bridge.weighted(method, chosen.losses)
    read = jnp.sum(readout.reshape(-1, width) * (halves[:, 0] - halves[:, 1]))
    return loss, loss + read, chosen, halves

  loss, _, chosen, halves = jax.jit(run)(params)
  found = {'weights': chosen.similarity, 'index': chosen.indices[:, 0],
           'key_prefix': halves[:, 0], 'value_prefix': halves[:, 1],
           'loss': loss}
  for which, name in enumerate(('loss', 'readout')):
    grads = jax.jit(jax.grad(lambda p, which=which: run(p)[which]))(params)
    found |= {f'grad_{name}_p': grads['pool'][0],
              f'grad_{name}_k': grads['keys'][0]}
  return found


def _model(fixture: Fixture) -> dict[str, Array]:
  """All blocks on images."""
  program = vq_bridge.program(fixture.meta, vq_bridge.expand(fixture.meta))
  params = state_lib.variables(vq_bridge.params(fixture))
  images = bridge.pictures(fixture['images'])

  @jax.jit
  def run(params, images):
    query = program.model.apply(params, images, method='query')
    return query.cls, *(program.model.apply(
        params, images, query, jnp.int32(index), train=train)
                        for index, train in ((0, True), (-1, False)))

  query, train, test = run(params, images)
  found = {'query': query, 'features': test.pre_logits,
           'logits_train': train.logits, 'logits_eval': test.logits,
           'prompt_loss': np.reshape(vq_bridge.weighted(
               program.method, train.selection.losses), 1)}
  size = fixture.meta['config']['pool']
  for i, layer in enumerate(fixture.meta['layers']):
    found |= {
        f'layer{layer}/weights':
            train.selection.similarity[:, i * size:(i + 1) * size],
        f'layer{layer}/index': train.selection.indices[:, i] - i * size}
  return found


def _released(fixture: Fixture, report: Report) -> None:
  """Rates of every step of the recipes: of prompts and of the classifier."""
  paths = 'prompt/pool', 'head/kernel'
  want = fixture['released_step_sizes']
  rates = vq_bridge.rates(
      configs.load('vq_prompt'), paths, np.arange(len(want)) + 1,
      batch_size=128, steps_per_epoch=39)
  report.compare('released_step_sizes',
                 np.stack([rates[path] for path in paths], axis=1), want,
                 tol.RATE)
  want = fixture['released_epoch_factors']
  rates = vq_bridge.rates(
      configs.load('vq_prompt:cub200'), paths, 4 * np.arange(len(want)) + 1,
      batch_size=128, steps_per_epoch=4)
  report.compare('released_epoch_factors', rates[paths[1]] / 0.0025, want,
                 tol.RATE)


def run_train(fixture: Fixture, report: Report) -> None:
  """Every step of two tasks, and an evaluation after each."""
  _Trial(fixture, report).run()


class _Trial:
  """The run of one file."""

  def __init__(self, fixture: Fixture, report: Report):
    self._fixture, self._report, self._meta = fixture, report, fixture.meta
    config = vq_bridge.expand(self._meta)
    self._program = vq_bridge.program(self._meta, config)
    self._devices = jax.local_devices()[:1]
    frozen, trainable = self._program.split(vq_bridge.params(fixture))
    self._frozen = parallel.replicate(frozen, self._devices)
    self._state = state_lib.create(
        trainable, self._program.method, self._program.optimizer)
    self._noisy = {path: np.zeros(leaf.shape, bool)
                   for path, leaf in trainable.items()}
    self._moved = dict.fromkeys(trainable, 0.0)  # at most, by noise
    pmap = lambda fn, axes: parallel.pmap(
        fn, in_axes=axes, devices=self._devices)
    self._step = pmap(self._train, (0, 0, 0, None))
    self._eval = pmap(self._evaluation, (0, 0, 0))

  def run(self) -> None:
    """All tasks, each with a new optimizer."""
    for t, classes in enumerate(self._meta['class_mask']):
      self._state = state_lib.with_new_optimizer(
          self._state, self._program.optimizer)
      for i in range(self._meta['steps_per_task']):
        self._compare_step(t, i, classes)
      self._evaluate(t)

  def _compare_step(self, t: int, i: int, classes: Any) -> None:
    name, sizes = f'task{t}/step{i}', self._meta['config']
    batch = bridge.leaves(
        self._fixture, f'task{t}/batch{i % sizes["iter_step"]}')
    batch = {'image': bridge.pictures(batch['images']),
             'label': batch['labels']}
    info = steps.TaskInfo.create(
        t, np.isin(np.arange(sizes['classes']), classes),
        first_step=t * self._meta['steps_per_task'],
        steps_per_epoch=sizes['iter_step'])
    seen, self._state = self._on_device(self._step, batch, info)
    rates = vq_bridge.rates(
        self._program.config, self._state.params, i + 1,
        batch_size=sizes['batch'], steps_per_epoch=sizes['iter_step'])
    seen['lr'] = [rates['prompt/pool'], rates['head/kernel']]
    grads = seen.pop('grad')
    _compare(self._fixture, self._report, name, seen)
    want = self._fixture.under(f'{name}/grad')
    self._report.compare_tree(
        f'{name}/grad/*', grads, want, tol.GRADIENT, through=self._own)
    self._compare_params(name, self._own(want), rates)

  def _compare_params(self, name: str, grads: Any, rates: Any) -> None:
    """Entries whose gradient was rounding may be anywhere within some steps."""
    recorded = self._fixture.under(f'{name}/params')
    want, got = self._own(recorded), {}
    for path, leaf in self._state.params.items():
      noise = (np.abs(grads[path]) < _NOISE) & (grads[path] != 0)
      self._noisy[path] |= noise
      self._moved[path] += float(rates[path])
      near = np.abs(leaf - want[path]) <= self._moved[path]
      got[path] = np.where(self._noisy[path] & near, want[path], leaf)
    self._report.compare_tree(
        f'{name}/params/*', got, recorded, tol.PORT_PARAMS, through=self._own)

  def _own(self, leaves: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return vq_bridge.own(leaves, self._meta['layers'])

  def _evaluate(self, t: int) -> None:
    seen = sum(map(len, self._meta['class_mask'][:t + 1]))
    out = self._on_device(self._eval, {
        'image': bridge.pictures(self._fixture['eval_images'])})
    _compare(self._fixture, self._report, f'task{t}', {
        'eval_logits': out.logits[:, :seen], 'eval_features': out.pre_logits})

  def _on_device(self, step: Any, batch: Any, *more: Any) -> Any:
    return parallel.unreplicate(step(
        parallel.replicate(self._state, self._devices), self._frozen,
        parallel.shard(batch, self._devices), *more))

  def _train(self, state, frozen, batch, task):
    """What the recorded names say, and the state after a real step."""
    program = self._program
    step = observation.train_step(
        program.config, program.model, program.method, program.optimizer,
        metrics=vq_bridge.NoMetrics,
        global_batch_size=self._meta['config']['batch'])
    found, (after, _) = step(state, frozen, batch, task)
    out = found['out']
    first = self._meta['config']['pool'] * np.arange(len(self._meta['layers']))
    seen = dict(
        logits_all=out.logits, loss=found['loss'], grad=found['grads'],
        index=(out.selection.indices - first).T,
        prompt_loss=jnp.reshape(vq_bridge.weighted(
            program.method, out.selection.losses), 1))
    return seen, after

  def _evaluation(self, state, frozen, batch):
    model = self._program.model
    query = steps.make_query(model)(frozen, batch['image'])
    params = state_lib.variables(state_lib.overlay(frozen, state.params))
    return model.apply(
        params, batch['image'], query, jnp.int32(-1), train=False)
