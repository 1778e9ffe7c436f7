# SPDX-License-Identifier: Apache-2.0
"""Sections of keys that methods own."""

import types

import ml_collections
import pytest

from promptcl.configs import base
from promptcl.models import prompts
from promptcl.models.parts import options
from promptcl.train_lib.startup import config_values
from promptcl.train_lib.startup import startup
from tests.helpers import fakes

MINE = options.Section('mine', {'size': 3, 'how.far': 0.5}, positive=('size',),
                       shares=('how.far',), choices={'size': (1, 3)})
TOP = options.Section('', {'mine_too': ()}, items={'mine_too': int})


def test_keys_are_mounted_under_their_section():
  config = ml_collections.ConfigDict({'theirs': 1})
  options.mount(config, (MINE, TOP))
  assert config.to_dict() == {
      'theirs': 1, 'mine': {'size': 3, 'how': {'far': 0.5}}, 'mine_too': ()}


def test_rules_of_all_have_full_keys():
  found = options.joined((MINE, TOP))
  assert found.defaults == {'mine.size': 3, 'mine.how.far': 0.5, 'mine_too': ()}
  assert (found.positive, found.shares) == (('mine.size',), ('mine.how.far',))
  assert found.choices == {'mine.size': (1, 3)}
  assert found.items == {'mine_too': int}


@pytest.mark.parametrize('config, sections, message', [
    ({'mine': {'size': 1}}, (MINE,), 'config.mine.size is there already'),
    ({}, (MINE, options.Section('mine', {'size': 4})),
     'two sections both offer config.mine.size')])
def test_a_key_has_one_owner(config, sections, message):
  with pytest.raises(ValueError, match=message):
    options.mount(ml_collections.ConfigDict(config), sections)


def _package(folder, monkeypatch, **files):
  """A package of such files that is `promptcl.models.prompts` meanwhile."""
  for name, text in files.items():
    (folder / f'{name}.py').write_text(text)
  monkeypatch.setattr(prompts, '__path__', [str(folder)])
  return types.SimpleNamespace(__name__=prompts.__name__,
                               __path__=[str(folder)])


_OFFER = ('from promptcl.models.parts import options\n'
          'OPTIONS = options.Section("mine", {})\n')


def test_two_methods_may_share_a_section_but_not_its_name(
    tmp_path, monkeypatch):
  shared = _package(
      tmp_path, monkeypatch, first_of_two=_OFFER, none_of_two='',
      second_of_two=f'from {prompts.__name__}.first_of_two import OPTIONS\n')
  assert [section.name for section in options.offered(shared)] == ['mine']
  (tmp_path / 'third_of_two.py').write_text(_OFFER)
  with pytest.raises(ValueError, match='both offer config.mine'):
    options.offered(shared)


def test_methods_and_parts_around_them_own_their_keys():
  owned = options.joined(base.sections()).defaults
  assert {'vq.length', 'generation.kernel', 'pgp.enabled', 'replay.capacity',
          'rebalance.epochs', 'regularizer', 'use_e_prompt',
          'prompt_pool_param.top_k'} <= set(owned)
  config = dict(config_values.leaves(base.get_config()))
  assert {key: config[key] for key in owned} == owned


@pytest.mark.parametrize('key, value, message', [
    ('generation.attention_dropout', 1.0, 'is 1.0, must be in .0, 1.'),
    ('vq.length', 0, 'is 0, must be positive'),
    ('pgp.num_images', -1, 'is -1, must not be negative'),
    ('vq.layers', ('a',), "lists 'a', must list int only"),
    ('pgp.energy_power', 3, 'is 3, must be one of 4, 2')])
def test_rules_of_options_hold_whatever_the_method(key, value, message):
  with pytest.raises(ValueError, match=f'config.{key} {message}'):
    startup.check(fakes.config(**{key: value}))


@pytest.mark.parametrize('changes, message', [
    ({'vq.length': 3}, ''),
    ({'method': 'vq_prompt', 'vq.length': 3}, 'vq.length 3 must be even'),
    ({'e_prompt_layer_idx': ()}, 'e_prompt_layer_idx is empty'),
    ({'method': 'vpt', 'e_prompt_layer_idx': ()}, ''),
    ({'pgp.enabled': True, 'pgp.variant': 'paper', 'pgp.energy_power': 2},
     'config.pgp.variant paper knows'),
    ({'replay.review_epochs': 1}, 'needs a store')])
def test_keys_go_together_where_they_are_read(changes, message):
  """Those of a method where it runs, those of parts around it always."""
  config = fakes.config(**{'vit_classifier': 'token', **changes})
  if not message:
    startup.check(config)
    return
  with pytest.raises(ValueError, match=message):
    startup.check(config)
