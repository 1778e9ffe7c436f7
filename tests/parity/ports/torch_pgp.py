# SPDX-License-Identifier: Apache-2.0
"""Gradient projection over the tasks of a port: collection, steps, evaluation.

  torch_pgp.py       the tasks, what is collected and what it makes of the bases
  torch_pgp_steps.py one training step, link by link, and one evaluation batch
"""

from typing import Any

import jax
import numpy as np

from promptcl.models import classifier
from promptcl.models.parts import base
from promptcl.train_lib import probe as probe_lib
from promptcl.train_lib import program as program_lib
from promptcl.train_lib import train
from promptcl.train_lib.around import projection
from promptcl.train_lib.around import subspace
from promptcl.train_lib.core import parallel
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.steps import optimizer as optimizer_lib
from tests.parity import tolerances as tol
from tests.parity.fixture import Fixture
from tests.parity.ports import torch_bridge as bridge
from tests.parity.ports import torch_pgp_steps as steps_lib
from tests.parity.report import Report

_SPACES = {'prompt': 'tokens', 'key': 'keys'}  # theirs -> ours


def run(fixture: Fixture, report: Report) -> None:
  """The file; with prefixes under both pairings of the port."""
  if 'layers' not in fixture.meta:
    _Trial(fixture, report, '', 'correct').run()
    return
  for pairing in 'port', 'correct':
    _Trial(fixture, report, f'{pairing}/', pairing).run()


class _Trial:
  """The run of one file under one pairing."""

  def __init__(self, fixture: Fixture, report: Report, prefix: str,
               pairing: str):
    self._fixture, self._report, self._prefix = fixture, report, prefix
    self._meta = fixture.meta
    self._program = _program(fixture, pairing)
    arrays = bridge.leaves(fixture)
    params = state_lib.flatten(
        bridge.variables(arrays, self._meta)['params'])
    frozen, trainable = self._program.split(params)
    self._state = jax.tree.map(np.asarray, state_lib.create(
        trainable, self._program.method, self._program.optimizer))
    self._stream = _Stream(fixture)
    devices = jax.local_devices()[:1]
    frozen = parallel.replicate(frozen, devices)
    self._probe = probe_lib.Probe(
        self._program, self._stream, frozen, devices)
    self._steps = steps_lib.Steps(
        fixture, report, prefix, self._program, frozen, devices)
    self._spaces = projection.protected(self._program.model.prompt)
    self._accuracies = np.zeros((self._meta['tasks'],) * 2)

  def run(self) -> None:
    """All tasks, in the order of the original."""
    if 'pos_embed_base' in self._fixture:
      table = self._fixture['params/pos_embed']
      own = table.shape[1] - self._fixture['pos_embed_base'].shape[1]
      self._report.compare('pos_embed_base', np.concatenate(
          [table[:, :1], table[:, 1 + own:]], axis=1),
                           self._fixture['pos_embed_base'])
    for task in self._stream.tasks:
      self._run_task(task)
    self._final_queries()

  def _run_task(self, task: Any) -> None:
    t, probe = task.index, self._probe.at(task)
    name = f'{self._prefix}task{t}'
    if 'layers' not in self._meta:
      self._collected(probe, name)
    self._between(train.begin_task, task, probe)
    if f'{name}/start/e_prompt.prompt' in self._fixture:
      leaves = bridge.trainable(self._fixture, f'{name}/start')
      self._report.compare_tree(
          f'{name}/start/*', {k: self._state.params[k] for k in leaves}, leaves,
          tol.PORT_PARAMS)
    if 'layers' not in self._meta:
      self._bases(name, _SPACES)
    for i in range(self._meta['steps'][t]):
      self._state = self._steps.train(self._state, task, i)
    if 'layers' in self._meta:
      self._collected_layers(probe, name)
    self._between(train.end_task, task, probe)
    if 'layers' in self._meta:
      self._bases(name, {space.name.replace('_', ''): space.name
                         for space in self._spaces})
    for j in range(t + 1):
      self._accuracies[j, t] = self._steps.evaluate(self._state, t, j)
    self._report.compare(
        f'{name}/accuracy_matrix', self._accuracies,
        self._fixture[f'{name}/accuracy_matrix'], tol.TOKENS)

  def _between(self, hook: Any, task: Any, probe: Any) -> None:
    """Runs a hook of the training loop, which wants replicated state."""
    self._state = parallel.unreplicate(hook(
        self._program, parallel.replicate(self._state, self._probe.devices),
        task, probe))

  def _inputs(self, probe: probe_lib.Probe) -> dict[str, np.ndarray]:
    return probe.inputs(
        self._state, self._spaces, count=self._meta['config']['embed_dim'],
        augment=True, embedded_query=True)

  def _collected(self, probe: probe_lib.Probe, name: str) -> None:
    """Features and scores of L2P, before the task."""
    inputs, count = self._inputs(probe), self._meta['components']
    params = self._state.params
    got = {'memory_query_features': inputs['keys'],
           'patch_rows_first3': inputs['tokens'][:3],
           'scores_images': subspace.scores(inputs['tokens'], count['prompt']),
           'scores_queries': subspace.scores(inputs['keys'], count['key'])}
    got |= {'S_prompt': got['scores_images'], 'S_key': got['scores_queries']}
    if f'{name}/scores_prompts' in self._fixture:
      pool = params['prompt/prompt_pool/prompt']
      got['scores_prompts'] = subspace.scores(
          pool.reshape(-1, pool.shape[-1]).T, count['prompt'])
      got['S_prompt'] = got['scores_images'] + got['scores_prompts']
    for array, value in got.items():
      self._report.compare(f'{name}/{array}', value,
                           self._fixture[f'{name}/{array}'], _TOLERANCE[array])

  def _collected_layers(self, probe: probe_lib.Probe, name: str) -> None:
    """Prompts and scores of DualPrompt, after the task."""
    images = self._stream.images(probe.task)
    self._report.compare(f'{name}/memory_prompt_idx',
                         self._steps.embedded_choice(self._state, images),
                         self._fixture[f'{name}/memory_prompt_idx'])
    for space, rows in self._inputs(probe).items():
      array = f'{name}/S_{space.replace("_", "")}'
      if array in self._fixture:
        got = subspace.scores(rows, self._meta['components'])
        self._report.compare(
            array, got @ got.T, self._fixture[array], tol.RANDOM_PRODUCTS,
            through=bridge.products, remark='S S^T')

  def _bases(self, name: str, spaces: Any) -> None:
    """The bases that project in the task, and those after it was added."""
    for theirs, ours in spaces.items():
      basis = self._state.memory['pgp'][ours]
      if f'{name}/projection_{theirs}' in self._fixture:
        active = basis['active']
        self._report.compare(f'{name}/projection_{theirs}', active @ active.T,
                             self._fixture[f'{name}/projection_{theirs}'],
                             tol.PROJECTION)
      want = self._fixture[f'{name}/basis_{theirs}']
      self._report.compare(f'{name}/rank_{theirs}', basis['rank'],
                           np.int32(want.shape[1]))
      self._report.compare(
          f'{name}/basis_{theirs}', basis['known'] @ basis['known'].T,
          want, tol.PROJECTION, through=bridge.products, remark='F F^T')

  def _final_queries(self) -> None:
    """What an input is: the first memory image through the final model."""
    if 'layers' not in self._meta:
      return
    probe, sizes = self._probe.at(self._stream.tasks[0]), self._meta['config']
    for space, rows in self._inputs(probe).items():
      array = f'{self._prefix}final_attention_query_{space.replace("_", "")}'
      got = rows[0].reshape(1, 1 + sizes['tokens'], sizes['num_heads'], -1)
      self._report.compare(array, got.swapaxes(1, 2), self._fixture[array],
                           tol.TOKENS)


_TOLERANCE = {
    'memory_query_features': tol.FEATURES, 'patch_rows_first3': tol.FEATURES,
    'scores_images': tol.RANDOM_SCORES, 'scores_prompts': tol.SCORES,
    'scores_queries': tol.SCORES, 'S_prompt': tol.RANDOM_SCORES,
    'S_key': tol.SCORES}


class _Stream:
  """The recorded tasks with their memory images, as the probe wants them."""

  def __init__(self, fixture: Fixture):
    self._fixture = fixture
    width = fixture.meta['config']['classes']
    self.tasks = tuple(
        steps_lib.Task(t, np.isin(np.arange(width), classes),
                       len(fixture[f'task{t}/memory_images']))
        for t, classes in enumerate(fixture.meta['class_mask']))

  def images(self, task: Any) -> np.ndarray:
    """The memory images of a task."""
    return bridge.pictures(self._fixture[f'task{task.index}/memory_images'])

  def drawn_batches(self, task: Any, count: int, *, augment: bool):
    """All of them at once; they are augmented already."""
    del augment
    images = self.images(task)[:count]
    yield {'image': images, 'mask': np.ones(len(images), np.float32)}


def _program(fixture: Fixture, pairing: str) -> program_lib.Program:
  config = bridge.expand_pgp(fixture.meta, pairing)
  stream = base.StreamInfo(fixture.meta['config']['classes'],
                           config.continual.num_tasks)
  model, method = classifier.build(
      config, stream, bridge.backbone(fixture.meta))
  method = projection.wrap(method, config)
  optimizer = optimizer_lib.create(config, method.transform,
                                   method.step_transform)
  return program_lib.Program(
      config, model, method, optimizer, None, state_lib.random_params(
          model, image_size=fixture.meta['config']['img_size']))
