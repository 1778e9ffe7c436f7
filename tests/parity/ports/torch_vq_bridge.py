# SPDX-License-Identifier: Apache-2.0
"""Configs, names and rates of VQ-Prompt's code -> ours."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from promptcl.configs import base as defaults
from promptcl.models import classifier
from promptcl.models.parts import base
from promptcl.train_lib import program as program_lib
from promptcl.train_lib.around import rebalancing
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.startup import startup
from promptcl.train_lib.steps import optimizer as optimizer_lib
from tests.parity.fixture import Fixture
from tests.parity.ports import torch_bridge as bridge

Array = jax.Array
_STACKED = {'prompt/keys': 'prompt.e_k_{}', 'prompt/pool': 'prompt.e_p_{}'}
_HEAD = {'head/kernel': 'last.weight', 'head/bias': 'last.bias'}
# Names that a weight has in the files, and ours.
_WEIGHTS = {'pull_soft_to_code': 'vq.commitment_weight',
            'pull_code_to_soft': 'vq.codebook_weight'}


def expand(meta: Mapping[str, Any], **changes: Any
           ) -> ml_collections.FrozenConfigDict:
  """Complete config of a file; keywords replace keys."""
  sizes, config = meta['config'], defaults.get_config()
  freeze, warmup, epochs = sizes['schedule']
  scale = 256 / sizes['batch']
  config.update_from_flattened_dict({
      'method': 'vq_prompt', 'vit_classifier': 'token', 'use_e_prompt': False,
      'optim': 'adamw', 'weight_decay': float(sizes['wd']),
      'per_device_batch_size': sizes['batch'], 'num_epochs': epochs,
      'warmup_epochs': warmup, 'learning_rate': sizes['lr'] * scale,
      'min_learning_rate': 1e-6 * scale,
      'learning_rate_multipliers': (('prompt/.*', 5.0),),
      'learning_rate_schedule': 'freeze_cosine',
      'freeze_cosine.freeze_steps': freeze,
      'freeze_cosine.steps_per_epoch': sizes['iter_step'],
      'grad_clip_max_norm': 0.0, 'grad_clip_scope': 'trainable',
      'vq.pool_size': sizes['pool'], 'vq.length': sizes['length'],
      'vq.temperature': float(sizes['temp']),
      **({'vq.layers': tuple(meta['layers'])} if 'layers' in meta else {}),
      **{_WEIGHTS[name]: weight
         for name, weight in meta.get('loss_weights', {}).items()}, **changes})
  return startup.expand(config)


def program(meta: Mapping[str, Any], config: Any) -> program_lib.Program:
  """Model, method and optimizer of a file; no weights."""
  stream = base.StreamInfo(meta['config']['classes'],
                           config.continual.num_tasks)
  model, method = classifier.build(config, stream, bridge.backbone(meta))
  draw = state_lib.random_params(
      model, image_size=meta['config']['img_size'])
  method = rebalancing.wrap(method, config, state_lib.shapes(draw))
  return program_lib.Program(
      config, model, method, program_lib.optimizer_of(config, method), None,
      draw)


def own(arrays: Mapping[str, np.ndarray], layers: Iterable[int] = ()
        ) -> dict[str, np.ndarray]:
  """Leaves of the head, and of the prompts of some blocks, under our paths."""
  found = {path: arrays[name].T for path, name in _HEAD.items()
           if name in arrays}
  if layers:
    found |= {path: np.stack([arrays[name.format(layer)] for layer in layers])
              for path, name in _STACKED.items()}
  return found


def params(fixture: Fixture) -> dict[str, np.ndarray]:
  """All parameters of the model, flat."""
  arrays = bridge.leaves(fixture)
  plain = {name.removeprefix('feat.'): array for name, array in arrays.items()
           if name.startswith('feat.')}
  backbone = bridge.variables(plain, fixture.meta)['params']
  return state_lib.flatten(backbone) | own(arrays, fixture.meta['layers'])


def rates(config: Any, paths: Iterable[str], step: Any, *, batch_size: int,
          steps_per_epoch: int) -> dict[str, Array]:
  """What our schedule and chain multiply the update of a leaf by.

  Args:
    config: of the run or of a phase.
    paths: of leaves.
    step: counted from 1 within the phase; may be several.
    batch_size: rows of a step.
    steps_per_epoch: of the phase.
  """
  rate, floor = optimizer_lib.rate_and_floor(
      jnp.int32(step), jnp.int32(steps_per_epoch),
      **optimizer_lib.schedule_options(config, batch_size))
  links = (optimizer_lib.scale_by_rules(config.learning_rate_multipliers),
           optimizer_lib.scale_by_given_rate())
  chain = optax.with_extra_args_support(optax.chain(*links))
  ones = {path: jnp.ones(()) for path in paths}
  updates, _ = chain.update(ones, chain.init(ones), ones, learning_rate=rate,
                            rate_floor=floor)
  return {path: -update for path, update in updates.items()}


def weighted(method: base.Method, found: Mapping[str, Array]) -> Array:
  """The prompt's losses under their weights."""
  return sum(method.loss_weights[name] * loss for name, loss in found.items())


class NoMetrics:
  """Stands where the metrics of a step are made."""

  @classmethod
  def gather_from_model_output(cls, **values):
    """Makes none."""
    del values
