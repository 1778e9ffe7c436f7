# SPDX-License-Identifier: Apache-2.0
"""Streams and methods: every pair, what is chosen, what is laid upon what."""

import re

import pytest

from promptcl import configs
from promptcl.configs import listing
from promptcl.configs import names
from promptcl.configs import presets
from promptcl.configs import streams
from promptcl.input_pipeline.read import datasets
from promptcl.models.weights import pretrained
from promptcl.train_lib.startup import startup

METHODS = listing.methods()
# What the original's six are.
SAME = {'cifar100_l2p': 'l2p:cifar100',
        'cifar100_dualprompt': 'dualprompt:cifar100',
        'cifar100_gaussian_l2p': 'l2p:cifar100_gaussian',
        'core50_l2p': 'l2p:core50',
        'five_datasets_l2p': 'l2p:five_datasets',
        'imr_dualprompt': 'dualprompt:imr'}
# Method -> streams on which a key of it must be set by hand, and which.
REFUSED = {
    'clip_pgp': (('cifar100_gaussian', 'core50', 'core50_clean', 'domainnet',
                  'pacs'), 'eval_until_own_task'),
    'vq_prompt': (('cifar100_online', 'cifar100_20x5_online',
                   'tinyimagenet_online'), 'freeze_cosine.freeze_steps')}


@pytest.mark.parametrize('name', METHODS)
def test_every_method_goes_with_every_stream_or_says_what_is_in_the_way(name):
  without, key = REFUSED.get(name, ((), ''))
  for stream, row in streams.STREAMS.items():
    config = configs.load(f'{name}:{stream}')
    config.init_checkpoint = pretrained.RANDOM
    if stream in without:
      with pytest.raises(ValueError, match=key):
        startup.check(startup.expand(config))
    else:
      startup.check(startup.expand(config))
    assert (config.continual.num_tasks, config.continual.num_classes_per_task
            ) == (row.num_tasks, row.num_classes)
    assert (config.num_epochs == 1) >= row.online


def test_rows_name_what_there_is():
  for row in streams.STREAMS.values():
    assert {row.dataset} <= {*datasets.NAMES, *datasets.SEQUENCES,
                             'npz:pacs.npz'}
    assert row.like in {'', *streams.STREAMS}
  for name, module in METHODS.items():
    assert {*module.ON, *module.PUBLISHED} <= streams.STREAMS.keys(), name
  assert not streams.STREAMS.keys() & presets.PRESETS.keys()
  assert presets.ABOUT.keys() == presets.PRESETS.keys()


def test_a_stream_without_a_preset_and_both_in_any_order():
  assert streams.select('') == ('cifar100', '')
  assert streams.select('imr') == ('imr', '')
  assert streams.select('coda') == ('cifar100', 'coda')
  assert streams.select('coda', preset='hide') == ('cifar100', 'coda')
  assert streams.select('imr', preset='hide') == ('imr', 'hide')
  assert streams.select('coda,imr') == streams.select('imr,coda') == (
      'imr', 'coda')


@pytest.mark.parametrize('selection, line', [
    ('imr_5x4', "unknown stream or preset 'imr_5x4', see --list; did you mean "
     'imr_5x40?'),
    ('imr,torchport', "unknown stream or preset 'torchport', see --list; did "
     'you mean torch_port?'),
    ('?', "unknown stream or preset '?', see --list"),
    ('coda,hide', 'coda and hide are each a preset; name one')])
def test_a_wrong_selection_is_one_line(selection, line):
  with pytest.raises(ValueError, match=f'^{re.escape(line)}$'):
    configs.load('l2p', selection)


def test_a_method_lays_its_own_over_what_the_stream_varies():
  config = configs.load('vq_prompt:imr_5x40')
  assert (config.dataset, config.continual.num_tasks) == ('imagenet_r', 5)
  assert config.per_device_batch_size == 64  # as on imr
  assert config.freeze_cosine.freeze_steps == 80  # not as on imr
  assert configs.load('vq_prompt').freeze_cosine.steps_per_epoch == 40


def test_a_stream_and_a_preset():
  config = configs.load('l2p:imr_5x40,pilot')
  assert (config.preset, config.continual.num_classes_per_task) == ('pilot', 40)
  assert (config.num_epochs, config.per_device_batch_size) == (10, 32)
  assert configs.load('l2p_pgp:imr').preset == 'torch_port'
  assert configs.load('l2p_pgp:imr,hide').preset == 'hide'


def test_one_pass_is_one_pass_under_what_a_method_says_after_the_preset():
  assert configs.load('dualprompt_pgp').num_epochs == 20
  assert configs.load('dualprompt_pgp:cifar100_online').num_epochs == 1


@pytest.mark.parametrize('recipe', ['vq_prompt', 'it_prompt'])
def test_the_order_of_classes_follows_the_seed_and_leaves_it_alone(recipe):
  config = configs.load(recipe)
  assert config.continual.rand_seed == -1
  config.seed = 3
  assert config.continual.rand_seed == 3
  config.continual.rand_seed = 9
  assert config.seed == 3


@pytest.mark.parametrize('name', SAME)
def test_recipes_of_the_original_are_a_method_on_a_stream(name):
  assert configs.load(name, 'strict').to_json() == configs.load(
      SAME[name], 'strict').to_json()


def test_old_names_are_gone_and_answered_with_the_new_spelling():
  assert not names.MOVED.keys() & {*names.available()}
  for name, recipe in names.MOVED.items():
    method, _, stream = recipe.partition(':')
    assert method in METHODS and stream in streams.STREAMS, name
  with pytest.raises(ValueError) as raised:
    configs.load('cub200_10x20_l2p:paper')
  assert str(raised.value) == (
      'configs/cub200_10x20_l2p.py is now configs/l2p.py:cub200,paper')


def test_the_list_has_everything_as_it_is_typed():
  told = listing.text()
  words = set(told.split())
  assert {names.typed(name) for name in names.available()} <= words
  assert streams.STREAMS.keys() | presets.PRESETS.keys() <= words
  assert 'configs/l2p.py:imr_5x40' in words and '70.8' in words
  assert all(len(line) <= 80 for line in told.splitlines())
