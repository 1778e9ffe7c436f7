# SPDX-License-Identifier: Apache-2.0
"""Start-up: defaults under the user's keys, and refusals in one line."""

import json

import ml_collections
import numpy as np
import pytest

from promptcl.configs import base
from promptcl.train_lib.startup import startup
from tests.helpers import fakes


def _original_form():
  """A file as google-research/l2p has them: its keys, its types, no others."""
  config = ml_collections.ConfigDict()
  config.model_name = 'ViT-B_16'
  config.per_device_batch_size = 16
  config.dataset = 'cifar100'
  config.gaussian_schedule = False
  config.optim = 'adam'
  config.optim_wd_ignore = []
  config.learning_rate = 0.03
  config.learning_rate_schedule = 'constant'
  config.warmup_epochs = 0
  config.weight_decay = 0
  config.grad_clip_max_norm = 1.0
  config.num_epochs = 5
  config.seed = 42
  config.trial = 0
  config.eval_pad_last_batch = False
  config.log_loss_every_steps = 10
  config.eval_every_steps = -1
  config.eval_per_epochs = 1
  config.checkpoint_every_steps = 5000
  config.shuffle_buffer_size = 5000
  config.input_size = 224
  config.resize_size = 256
  config.norm_01 = True
  config.reverse_task = False
  config.continual = ml_collections.ConfigDict(dict(
      num_tasks=10, num_classes_per_task=10, rand_seed=-1,
      eval_task_inc=False, train_mask=True, offline_eval=False))
  config.freeze_part = ['encoder', 'embedding', 'cls']
  config.vit_classifier = 'prompt'
  config.temperature = 1
  config.use_e_prompt = True
  config.e_prompt_layer_idx = [0]
  config.prompt_pool = True
  config.prompt_pool_param = ml_collections.ConfigDict(dict(
      initializer='uniform', prompt_key=True, use_prompt_mask=False,
      mask_first_epoch=False, shared_prompt_pool=False,
      shared_prompt_key=False, batchwise_prompt=True, prompt_key_init='uniform',
      pool_size=10, length=10, top_k=4, embedding_key='cls',
      predefined_key_path=''))
  config.init_checkpoint = ml_collections.config_dict.placeholder(str)
  return config


def _keys(config, prefix=''):
  for key, value in config.items():
    if hasattr(value, 'items'):
      yield from _keys(value, f'{prefix}{key}.')
    else:
      yield prefix + key


def test_a_file_of_the_original_expands_and_passes():
  original = _original_form()
  config = startup.expand(original)
  assert config.init_checkpoint is None
  original.init_checkpoint = 'ViT-B_16.npz'  # users give it as a flag
  startup.check(startup.expand(original))
  assert set(_keys(config)) == set(_keys(base.get_config()))
  assert config.method == 'l2p'
  assert config.e_prompt_layer_idx == (0,)
  assert config.freeze_part == ('encoder', 'embedding', 'cls')
  assert (config.weight_decay, config.temperature) == (0.0, 1.0)
  assert 'trial' not in config


@pytest.mark.parametrize('g_prompt, method', [
    (True, 'dualprompt'), (False, 'l2p')])
def test_the_method_follows_from_the_keys_of_the_original(g_prompt, method):
  config = _original_form()
  config.use_g_prompt = g_prompt
  assert startup.expand(config).method == method


def test_configs_of_the_reference_numbers_expand(shared):
  for path in sorted((shared / 'parity/official_l2p').glob('*.npz')):
    with np.load(path) as file:
      meta = json.loads(str(file['meta'])) if 'meta' in file else {}
    if 'config' in meta:
      config = startup.expand(ml_collections.ConfigDict(meta['config']))
      assert config.learning_rate == meta['config']['learning_rate'], path


def test_what_expands_is_complete_frozen_and_as_given():
  config = fakes.config(learning_rate=0.125, method='none',
                        vit_classifier='token')
  assert config.learning_rate == 0.125
  assert set(_keys(config)) == set(_keys(base.get_config()))
  assert not config.use_e_prompt and not config.use_g_prompt
  with pytest.raises(AttributeError):
    config.learning_rate = 0.5


def test_defaults_lie_under_a_partial_file():
  config = startup.expand(ml_collections.ConfigDict({'num_epochs': 7}))
  defaults = base.get_config()
  assert config.num_epochs == 7
  assert config.learning_rate == defaults.learning_rate
  assert config.prompt_pool_param.top_k == defaults.prompt_pool_param.top_k


def test_expanding_twice_changes_nothing():
  once = fakes.config()
  assert startup.expand(once).to_json_best_effort() == (
      once.to_json_best_effort())


@pytest.mark.parametrize('typed, words', [
    ({'learning_rat': 0.1}, ('learning_rat ', 'learning_rate')),
    ({'continual': {'num_task': 3}}, ('continual.num_task ', 'num_tasks')),
    ({'prompt_pool_param': {'topk': 3}}, ('topk', 'top_k')),
    ({'xyzzy': 1}, ('xyzzy',)),
    ({'num_epochs': 'five'}, ('num_epochs', 'int', "'five'")),
    ({'num_epochs': 2.5}, ('num_epochs', 'int', '2.5')),
    ({'num_epochs': True}, ('num_epochs', 'int', 'True')),
    ({'learning_rate': 'fast'}, ('learning_rate', 'float')),
    ({'learning_rate': True}, ('learning_rate', 'float', 'True')),
    ({'use_e_prompt': 1}, ('use_e_prompt', 'bool', '1')),
    ({'dataset': 3}, ('dataset', 'str')),
    ({'init_checkpoint': 3}, ('init_checkpoint', 'str')),
    ({'e_prompt_layer_idx': 0}, ('e_prompt_layer_idx', 'tuple')),
    ({'freeze_part': 'encoder'}, ('freeze_part', 'tuple')),
    ({'continual': 3}, ('continual', 'group')),
])
def test_unknown_keys_and_wrong_types(typed, words):
  with pytest.raises(ValueError) as raised:
    startup.expand(ml_collections.ConfigDict(typed))
  _one_line(raised.value, words)


def _one_line(error, words):
  message = str(error)
  assert '\n' not in message
  for word in words:
    assert word in message, (word, message)


NO_TOKENS = {'use_prefix_tune_for_e_prompt': True}


@pytest.mark.parametrize('changes, words', [
    ({'vit_classifier': 'mean'}, ('vit_classifier', 'token+prompt')),
    ({'optim': 'adagrad'}, ('optim', 'sgd')),
    ({'learning_rate_schedule': 'step'}, ('learning_rate_schedule', 'cosine')),
    ({'grad_clip_scope': 'none'}, ('grad_clip_scope', 'trainable')),
    ({'eval_selection': 'vote'}, ('eval_selection', 'per_sample')),
    ({'eval_classes': 'task'}, ('eval_classes', 'seen')),
    ({'input_range': '255'}, ('input_range', 'imagenet')),
    ({'augmentation': 'flip'}, ('augmentation', 'crop_flip')),
    ({'dtype': 'float16'}, ('dtype', 'bfloat16')),
    ({'model_name': 'ViT-G_14'}, ('model_name', 'ViT-B_16')),
    ({'comparisons': ('frozn',)}, ('comparisons', 'frozn', 'frozen')),
    ({'prompt_pool_param.embedding_key': 'sum'}, ('embedding_key', 'mean_max')),
    ({'prompt_pool_param.initializer': 'zero'}, ('initializer', 'normal')),
    ({'prompt_pool_param.prompt_key_init': 'one'}, ('prompt_key_init', 'zero')),
    ({'per_device_batch_size': 0}, ('per_device_batch_size', 'positive')),
    ({'num_epochs': -1}, ('num_epochs', 'positive')),
    ({'prompt_pool_param.length': 0}, ('length', 'positive')),
    ({'temperature': 0.0}, ('temperature', 'positive')),
    ({'input_size': 12, 'resize_size': 10}, ('input_size 12', '10')),
    ({'warmup_epochs': 2, 'num_epochs': 2}, ('warmup_epochs', '2 epochs')),
    ({'gaussian_mode': 'paper'}, ('gaussian_mode', 'gaussian_schedule=True')),
    ({'continual.init_cls': 2}, ('init_cls', 'inc_cls')),
    ({'use_cls_token': False}, ('use_cls_token',)),
    ({'init_checkpoint': None}, ('init_checkpoint', '.npz', 'random')),
    ({'prompt_pool_param.top_k': 5}, ('top_k 5', 'pool_size 4')),
    ({'e_prompt_layer_idx': (0, 3)}, ('e_prompt_layer_idx', '3', '0 to 2')),
    ({'e_prompt_layer_idx': (-1,)}, ('e_prompt_layer_idx', '-1')),
    ({'e_prompt_layer_idx': ()}, ('e_prompt_layer_idx', 'empty')),
    ({'use_g_prompt': True, 'g_prompt_layer_idx': (5,)},
     ('g_prompt_layer_idx', '5')),
    ({'prompt_pool': False}, ('use_e_prompt', 'prompt_pool')),
    (NO_TOKENS, ('vit_classifier', 'token')),
])
def test_what_cannot_run_is_refused(changes, words):
  with pytest.raises(ValueError) as raised:
    startup.check(fakes.config(**changes))
  _one_line(raised.value, words)


@pytest.mark.parametrize('changes', [
    {}, fakes.DUALPROMPT, {**NO_TOKENS, 'vit_classifier': 'gap'},
    {'method': 'none', 'vit_classifier': 'token'},
    {'prompt_pool_param.top_k': 4}, {'e_prompt_layer_idx': (0, 2)},
    {'use_g_prompt': False, 'g_prompt_layer_idx': (5,)},
    {'comparisons': ('class_mean', 'finetune')},
    {'input_size': 10, 'resize_size': 10}])
def test_what_can_run_passes(changes):
  startup.check(fakes.config(**changes))


def test_notes_name_every_key_that_changes_nothing():
  config = _original_form()
  assert startup.notes(config, startup.expand(config)) == [
      'keys without effect here: continual.offline_eval, '
      'eval_pad_last_batch, log_loss_every_steps, '
      'prompt_pool_param.mask_first_epoch, '
      'prompt_pool_param.predefined_key_path, shuffle_buffer_size, trial']


def test_a_config_of_our_own_needs_no_notes():
  config = base.get_config()
  assert startup.notes(config, startup.expand(config)) == []


@pytest.mark.parametrize('e_prefix, g_layers, dropped', [
    (False, (0, 2), '[2]'),  # E-tokens stand in layer 0 alone
    (True, (0, 1), '[0, 1]'),  # no E-tokens at all
    (False, (0,), None)])
def test_dropped_g_tokens_are_told(e_prefix, g_layers, dropped):
  config = base.get_config()
  config.use_g_prompt = True
  config.use_prefix_tune_for_g_prompt = False
  config.use_prefix_tune_for_e_prompt = e_prefix
  config.g_prompt_layer_idx = g_layers
  lines = startup.notes(config, startup.expand(config))
  assert len(lines) == (dropped is not None)
  assert all(f'layers {dropped},' in line for line in lines)


@pytest.mark.parametrize('dataset, typed, scenario', [
    ('core50', None, 'domain'), ('core50', 'class', 'class'),
    ('cifar100', None, 'class')])
def test_core50_of_the_original_is_domain_incremental(dataset, typed, scenario):
  config = _original_form()
  config.dataset = dataset
  if typed:
    config.continual.scenario = typed
  assert startup.expand(config).continual.scenario == scenario
