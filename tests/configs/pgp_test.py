# SPDX-License-Identifier: Apache-2.0
"""The recipes of gradient projection against the table of the authors."""


import pytest

from promptcl import configs
from promptcl.configs import presets
from promptcl.train_lib import program as program_lib
from promptcl.train_lib.startup import startup
from tests.helpers import fakes

# Batch, epochs, rate a step, prompt length, seed, tasks, classes a task.
TABLE = {
    'l2p_pgp': (16, 5, 1.875e-3, 5, 42, 10, 10),
    'l2p_pgp:cifar100_20x5': (16, 5, 1.875e-3, 5, 53, 20, 5),
    'l2p_pgp:tinyimagenet': (16, 5, 1.875e-3, 5, 52, 10, 20),
    'l2p_pgp:cub200_5x40': (16, 5, 1.875e-3, 5, 42, 5, 40),
    'l2p_pgp:imr': (16, 50, 3.125e-4, 30, 59, 10, 20),
    'l2p_pgp:cifar100_online': (16, 1, 1.875e-3, 5, 42, 10, 10),
    'dualprompt_pgp': (24, 20, 2.8125e-3, 5, 59, 10, 10),
    'dualprompt_pgp:cifar100_20x5': (24, 20, 2.8125e-3, 5, 42, 20, 5),
    'dualprompt_pgp:tinyimagenet': (24, 5, 2.8125e-3, 5, 52, 10, 20),
    'dualprompt_pgp:cub200_5x40': (24, 10, 2.8125e-3, 5, 51, 5, 40),
    'dualprompt_pgp:imr': (24, 50, 4.6875e-4, 20, 43, 10, 20),
    'dualprompt_pgp:cifar100_online': (24, 1, 2.8125e-3, 5, 59, 10, 10),
    'l2p_pgp:cifar100_20x5_online': (16, 1, 1.875e-3, 5, 42, 20, 5),
    'dualprompt_pgp:cifar100_20x5_online': (24, 1, 2.8125e-3, 5, 42, 20, 5),
    'l2p_pgp:tinyimagenet_online': (16, 1, 1.875e-3, 5, 50, 10, 20),
    'dualprompt_pgp:tinyimagenet_online': (24, 1, 2.8125e-3, 5, 52, 10, 20),
}


def _recipe(name):
  return startup.expand(configs.load(name))


@pytest.mark.parametrize('name', TABLE)
def test_numbers_of_the_authors(name):
  config = _recipe(name)
  pool, stream = config.prompt_pool_param, config.continual
  rate = config.learning_rate * config.per_device_batch_size / 256
  assert (config.per_device_batch_size, config.num_epochs, pytest.approx(rate),
          pool.length, config.seed, stream.num_tasks,
          stream.num_classes_per_task) == TABLE[name]
  assert config.optim == 'adam' and config.grad_clip_max_norm == 1.0
  assert config.grad_clip_scope == 'trainable'
  assert pool.pool_size == 10 and stream.train_mask
  assert pool.initializer == pool.prompt_key_init == 'uniform_symmetric'
  assert config.preset == 'torch_port' in presets.PRESETS
  assert pool.batchwise_prompt == (name != 'dualprompt_pgp:imr')


@pytest.mark.parametrize('name', TABLE)
def test_what_each_method_projects_with(name):
  config = _recipe(name)
  pool, pgp = config.prompt_pool_param, config.pgp
  assert (pgp.enabled, pgp.variant, pgp.collect) == (True, 'released', 'auto')
  if 'dualprompt' in name:
    assert (pgp.prefix_components, pgp.prefix_epsilon) == (50, 0.5)
    assert (pool.top_k, pool.use_prompt_mask, pool.shared_prompt_pool,
            pool.shared_prompt_key) == (1, True, True, False)
    assert pool.prefix_pairing == 'correct'
    assert config.pull_constraint_coeff == 1.0
    assert config.vit_classifier == 'token'
    return
  assert (pgp.token_components, pgp.token_epsilon) == (9, 0.5)
  assert (pgp.key_components, pgp.key_epsilon) == (5, 0.97)
  assert pool.top_k == (1 if 'imr' in name else 5)
  assert not (pool.use_prompt_mask or pool.shared_prompt_pool)
  assert config.pull_constraint_coeff == 0.1
  assert config.vit_classifier == ('token' if 'cub' in name else 'prompt')


def test_projection_can_be_left_out_without_another_change():
  config = configs.load('l2p_pgp:imr')
  with_it = startup.expand(config).to_dict()
  config.pgp.enabled = False
  without = startup.expand(config).to_dict()
  assert with_it.pop('pgp') != without.pop('pgp')
  assert with_it == without


def test_numbers_of_the_authors_on_clip():
  config = _recipe('clip_pgp')
  pgp, stream = config.pgp, config.continual
  rate = config.learning_rate * config.per_device_batch_size / 256
  assert rate == pytest.approx(0.001)
  assert config.later_rate_multipliers == (('.*', 10.0),)
  assert (config.gradient_decay, config.later_gradient_decay) == (5e-4, 2e-4)
  assert (config.optim, config.sgd_momentum, config.sgd_nesterov) == (
      'sgd', 0.9, False)
  assert (config.num_epochs, config.per_device_batch_size, config.seed) == (
      5, 32, 1997)
  assert config.learning_rate_schedule == 'cosine_by_epoch'
  assert not config.weight_decay and not config.grad_clip_max_norm
  assert (config.vpt.length, config.text.context_tokens) == (10, 16)
  assert (stream.num_tasks, stream.num_classes_per_task) == (10, 10)
  assert stream.train_mask and config.eval_classes == 'seen'
  assert (pgp.enabled, pgp.variant, pgp.sequence_components,
          pgp.sequence_epsilon) == (True, 'released', 5, 0.9)
  program = program_lib.create(
      fakes.changed(config, init_checkpoint=program_lib.RANDOM), 100)
  _, trainable = program.split(program.shapes)
  assert {path: leaf.shape for path, leaf in trainable.items()} == {
      'prompt/tokens': (10, 768), 'head/context': (10, 16, 512)}
  assert program_lib.num_elements(program.shapes) == 149_710_337
