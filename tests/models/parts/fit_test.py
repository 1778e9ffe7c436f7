# SPDX-License-Identifier: Apache-2.0
"""What a run may ask of a prompt, whatever the method."""

import types

import pytest

from promptcl.models import prompts
from promptcl.models.parts import base
from promptcl.models.parts import fit
from promptcl.train_lib.startup import controls
from tests.helpers import fakes


class Able(base.Prompt):
  """Can do everything."""

  query_needs = ('embedding',)
  choices = ('key', 'random', 'oracle')
  has_tokens = True


class Bordered(base.Prompt):
  """Cannot do without borders."""

  needs_task_borders = True


def _config(**changes):
  return types.SimpleNamespace(**{
      'method': 'new', 'prompt_choice': 'key', 'vit_classifier': 'token',
      'gaussian_schedule': False, 'model_name': 'testing', 'comparisons': (),
      **changes})


@pytest.mark.parametrize('changes, prompt, message', [
    ({'prompt_choice': 'random'}, base.Prompt,
     "config.prompt_choice 'random' is for pools of which images choose; "
     'method new has key only'),
    ({'prompt_choice': 'oracle'}, base.Prompt, 'is for prompts that belong to'),
    ({'vit_classifier': 'token+prompt'}, base.Prompt,
     "config.vit_classifier 'token.prompt' reads prompt tokens, and method new "
     'has none; use token'),
    ({'vit_classifier': 'query'}, base.Prompt, 'methods that ask for embed'),
    ({'gaussian_schedule': True}, Bordered,
     'config.gaussian_schedule has no task borders, which method new needs')])
def test_what_a_prompt_cannot_do_is_refused(changes, prompt, message):
  with pytest.raises(ValueError, match=message):
    fit.check(_config(**changes), prompt())
  fit.check(_config(**changes), Able())


@pytest.mark.parametrize('name', ['random_prompt', 'oracle_prompt'])
def test_a_control_without_a_pool_is_refused(name):
  config = _config(comparisons=('frozen', name))
  with pytest.raises(ValueError, match=f'names {name}, but the method new has '
                     'no pool to choose from'):
    controls.check(config, base.Prompt())
  controls.check(config, Able())


def test_a_control_by_tasks_needs_prompts_of_tasks():
  config = _config(comparisons=('random_prompt', 'oracle_prompt'))
  prompt = types.SimpleNamespace(choices=('key', 'random'))
  with pytest.raises(ValueError, match='oracle_prompt, but the method new has '
                     'no prompts that belong to a task'):
    controls.check(config, prompt)


@pytest.mark.parametrize('layers, fit_in', [
    ((0, 2), True), ((), True), ((0, 3), False), ((-1,), False),
    ((1, 1), False)])
def test_layers_of_the_backbone(layers, fit_in):
  if fit_in:
    fit.check_layers(_config(), 'my.layers', layers, 3)
    return
  with pytest.raises(ValueError, match='config.my.layers .* layers 0 to 2 of '
                     'testing once'):
    fit.check_layers(_config(), 'my.layers', layers, 3)


@pytest.mark.parametrize('name', prompts.available())
def test_every_method_refuses_a_choice_that_its_prompt_does_not_know(name):
  small = prompts.small(name)
  model, _ = fakes.tiny_model(fakes.config(**small))
  for choice in {'key', 'random', 'oracle'} - set(model.prompt.choices):
    with pytest.raises(ValueError, match='config.prompt_choice'):
      fakes.tiny_model(fakes.config(**small, prompt_choice=choice))
