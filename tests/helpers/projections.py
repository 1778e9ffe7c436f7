# SPDX-License-Identifier: Apache-2.0
"""Programs with gradient projection, tiny and with random parameters."""

import types

import jax
import numpy as np

from promptcl.train_lib import probe as probe_lib
from promptcl.train_lib import train
from promptcl.train_lib.around import projection
from promptcl.train_lib.core import parallel
from promptcl.train_lib.steps import train_step as steps
from tests.helpers import fakes

L2P = {'pgp.enabled': True, 'prompt_pool_param.length': 3,
       'pgp.token_components': 4, 'pgp.token_epsilon': 0.9}
DUAL = {**fakes.DUALPROMPT, 'pgp.enabled': True, 'pgp.prefix_components': 8,
        'pgp.prefix_epsilon': 0.9}
CLIP = {**fakes.CLIP_PROMPTS, 'pgp.enabled': True,
        'pgp.sequence_components': 3, 'pgp.sequence_epsilon': 0.9999}
QUERY = {'embedded_query': True, 'count': 16, 'augment': True}
WIDTH = 16


class Setting:
  """Program, stream and state at random parameters on some devices."""

  def __init__(self, folder, count, **changes):
    config = fakes.config(folder, **changes)
    self.program, self.stream = train.prepare(config)
    self.devices = jax.devices()[:count]
    frozen, state = self.program.start()
    noise = np.random.default_rng(0)
    self.state = jax.tree.map(np.asarray, state.replace(params={
        path: noise.normal(0, 0.3, leaf.shape).astype(np.float32)
        for path, leaf in state.params.items()}))
    self.frozen = frozen
    self.log = []
    self.probe = probe_lib.Probe(
        self.program, self.stream, parallel.replicate(frozen, self.devices),
        self.devices, types.SimpleNamespace(
            scalars=lambda step, values: self.log.append((step, values))))
    self.spaces = projection.protected(self.program.model.prompt)
    assert ('pgp' in self.state.memory) == config.pgp.enabled

  def images(self, task):
    """The images that are collected, as one batch."""
    batches = list(self.stream.drawn_batches(task, WIDTH, augment=True))
    return np.concatenate([b['image'] for b in batches])[:WIDTH]

  def train(self, num_steps=2):
    """All tasks: hooks as in a run, `num_steps` steps; (before, after) each."""
    method = self.program.method
    step = parallel.pmap(
        steps.make_train_step(
            self.program.config, self.program.model, method,
            self.program.optimizer, global_batch_size=8),
        in_axes=(0, 0, 0, None), devices=self.devices)
    state, found = self.state, []
    for task in self.stream.tasks:
      probe = self.probe.at(task)
      begun = method.begin_task(state, task.index, probe)
      info = steps.TaskInfo.create(
          task.index, task.class_mask, first_step=int(state.step),
          steps_per_epoch=5)
      state = parallel.replicate(begun, self.devices)
      for batch, _ in zip(self.stream.batches(task), range(num_steps),
                          strict=False):
        state, _ = step(state, self.probe.frozen,
                        parallel.shard(batch, self.devices), info)
      state = method.end_task(parallel.unreplicate(state), task.index, probe)
      found.append((begun, state))
    return found
