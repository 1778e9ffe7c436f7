# SPDX-License-Identifier: Apache-2.0
"""Presets: rows that apply, what they set, and what they leave alone."""

import functools

import pytest

from promptcl import configs
from promptcl.configs import base
from promptcl.configs import presets
from promptcl.input_pipeline.read import datasets
from promptcl.input_pipeline.streams import class_orders
from promptcl.models import prompts
from promptcl.models.networks import vit
from promptcl.train_lib.startup import startup


def _recipe(name, preset='', **changes):
  """The expanded recipe under a preset."""
  config = configs.load(name, preset)
  config.init_checkpoint = 'random'
  config.update_from_flattened_dict(changes)
  return startup.expand(config)


def _rate(config):
  """Learning rate that one device uses."""
  return config.learning_rate * config.per_device_batch_size / 256


def test_an_order_given_after_a_preset_leaves_the_seed_alone():
  for name in 'cifar100_l2p', 'pgt:cub200':
    config = _recipe(name, 'strict', **{'continual.rand_seed': 7})
    assert (config.continual.rand_seed, config.seed) == (7, 42)
    config = _recipe(name, 'strict', seed=5)
    assert (config.continual.rand_seed, config.seed) == (5, 5)


def test_conditions_name_what_there_is():
  known = {*prompts.available(), *datasets.NAMES, *vit.VARIANTS, 'gaussian',
           '5datasets'}
  for preset, rows in presets.PRESETS.items():
    for condition in rows:
      assert set(condition.split()) <= known, (preset, condition)


def test_no_preset_leaves_the_recipe_as_it_is():
  config = base.get_config()
  before = config.to_json_best_effort()
  assert presets.apply(config, '').to_json_best_effort() == before


def test_an_unknown_preset_is_one_line_with_all_of_them():
  with pytest.raises(ValueError) as raised:
    presets.apply(base.get_config(), 'torchport')
  assert str(raised.value) == (
      "unknown preset 'torchport', have jax_v1, jax_v2, paper, torch_port, "
      'libcontinual, pilot, coda, hide, strict; did you mean torch_port?')


@pytest.mark.parametrize('preset, position, length, top_k, pull', [
    ('jax_v1', 'after_cls', 5, 5, .1), ('jax_v2', 'before_cls', 10, 4, 1.),
    ('paper', 'after_cls', 5, 5, .5), ('torch_port', 'after_cls', 5, 5, .1),
    ('libcontinual', 'before_cls', 5, 5, 1.), ('pilot', 'after_cls', 5, 5, .1),
])
def test_l2p_of_each_code_base(preset, position, length, top_k, pull):
  config = _recipe('cifar100_l2p', preset)
  pool = config.prompt_pool_param
  assert (config.prompt_position, pool.length, pool.top_k,
          config.pull_constraint_coeff) == (position, length, top_k, pull)


@pytest.mark.parametrize('recipe, preset, batch, rate, epochs', [
    ('cifar100_l2p', 'torch_port', 16, .001875, 5),
    ('cifar100_dualprompt', 'torch_port', 24, .0028125, 5),
    ('cifar100_l2p', 'libcontinual', 16, .001875, 1),
    ('cifar100_l2p', 'pilot', 16, .001875, 5),
    ('cifar100_dualprompt', 'pilot', 24, .001, 5),
    ('l2p:imr', 'pilot', 32, .001875, 10),
    ('imr_dualprompt', 'pilot', 24, .001, 10),
    ('cifar100_l2p', 'coda', 128, .001, 20),
    ('imr_dualprompt', 'coda', 128, .001, 50),
    ('l2p:domainnet_5x69', 'coda', 128, .001, 5),
])
def test_batch_and_rate_that_are_used(recipe, preset, batch, rate, epochs):
  config = _recipe(recipe, preset)
  assert config.per_device_batch_size == batch
  assert _rate(config) == pytest.approx(rate)
  assert config.num_epochs == epochs


@pytest.mark.parametrize('preset', ['coda', 'pilot', 'libcontinual'])
def test_one_pass_stays_one_pass(preset):
  assert _recipe('l2p:cifar100_online', preset).num_epochs == 1


def test_the_original_on_its_eight_devices():
  for name, rate in (('cifar100_l2p', .015), ('cifar100_dualprompt', .0225),
                     ('imr_dualprompt', .00375)):
    assert 8 * _rate(_recipe(name, 'jax_v2')) == pytest.approx(rate)


def test_five_datasets_of_paper_and_ports():
  paper = _recipe('five_datasets_l2p', 'paper')
  ports = _recipe('five_datasets_l2p', 'torch_port')
  sizes = lambda config: (config.prompt_pool_param.pool_size,
                          config.prompt_pool_param.top_k,
                          config.prompt_pool_param.length,
                          config.pull_constraint_coeff)
  assert sizes(paper) == (20, 4, 5, .5)
  assert sizes(ports) == (20, 4, 10, .5)
  assert paper.dataset == '5datasets'
  assert ports.dataset.split(',')[:3] == ['svhn_cropped', 'mnist', 'cifar10']


def test_image_r_keeps_its_rate_and_per_image_prompts_in_the_ports():
  config = _recipe('imr_dualprompt', 'torch_port')
  assert (config.learning_rate, config.num_epochs) == (.005, 50)
  assert not config.prompt_pool_param.batchwise_prompt
  assert _recipe('imr_dualprompt', 'pilot').prompt_pool_param.batchwise_prompt


# As the protocol notes give them for CIFAR-100.
@pytest.mark.parametrize('preset, seed, first', [
    ('jax_v2', 1, range(10)), ('torch_port', 1, range(10)),
    ('coda', 0, range(10)),
    ('coda', 1, (53, 37, 65, 51, 4, 20, 38, 9, 10, 81)),
    ('coda', 2, (0, 76, 61, 63, 1, 71, 2, 6, 16, 19)),
    ('pilot', 1, (68, 56, 78, 8, 23, 84, 90, 65, 74, 76)),
    ('libcontinual', 1, (83, 30, 56, 24, 16, 23, 2, 27, 28, 13)),
])
def test_class_orders(preset, seed, first):
  config = _recipe('cifar100_l2p', preset, seed=seed)
  order = class_orders.class_order(config, 100)
  assert order[:10].tolist() == list(first)


@pytest.mark.parametrize('preset', ['coda', 'hide', 'strict'])
def test_the_class_order_follows_a_seed_that_is_set_later(preset):
  config = configs.load('cifar100_l2p', preset)
  config.seed = 3
  assert config.continual.rand_seed == 3
  config.continual.rand_seed = 9
  assert config.seed == 3


def test_weights_are_those_of_the_protocol_unless_the_recipe_has_some():
  cifar = functools.partial(configs.load, 'cifar100_l2p')
  digits = functools.partial(configs.load, 'digits_l2p')
  assert cifar('coda').init_checkpoint.startswith('hf://timm/')
  assert cifar('torch_port').init_checkpoint == cifar('paper').init_checkpoint
  assert cifar('torch_port').model_name == 'DeiT-B_16'  # the exact GELU
  assert digits('coda').init_checkpoint == digits().init_checkpoint
  assert digits('coda').model_name == 'ViT-digits'


def test_what_is_typed_over_a_preset_is_told():
  notes = lambda preset, *typed: presets.notes(
      _recipe('cifar100_l2p', preset), typed)
  assert notes('coda', 'num_epochs', 'seed', 'learning_rate') == [
      'preset coda but for num_epochs, learning_rate']
  assert notes('jax_v1', 'seed', 'init_checkpoint') == []
  assert notes('paper', 'num_epochs') == []  # set for Gaussian streams alone
  assert notes('', 'num_epochs') == []
  with pytest.raises(ValueError, match='RECIPE.py:PRESET'):
    notes('coda', 'preset')
