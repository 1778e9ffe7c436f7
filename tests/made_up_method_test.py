# SPDX-License-Identifier: Apache-2.0
"""A method that nobody knows: its own files, and no other, are enough.

One with options, losses, memory and hooks is written here, found by the name of
its file, put through the contract that all methods keep, and run by a recipe.
"""

import importlib.util
import inspect
import json
import sys

import pytest
from tensorboard.backend.event_processing import event_accumulator

from promptcl.models import prompts
from promptcl.train_lib import program as program_lib
from promptcl.train_lib import train
from promptcl.train_lib.startup import startup
from tests import contract_test
from tests.helpers import fakes
from tests.wrong_inputs import command

NAME = 'made_up'
_METHOD = '''
"""A vector for each task, added to the first block's tokens as one of them."""

import jax
import jax.numpy as jnp
import numpy as np

from promptcl.models.networks import vit
from promptcl.models.parts import base
from promptcl.models.parts import options


def check(config):
  if config.made_up.length > 9:
    raise ValueError('config.made_up.length is more than 9')


OPTIONS = options.Section(
    'made_up', {'length': 12, 'weight': 0.5, 'kind': 'plain'},
    positive=('length',), choices={'kind': ('plain', 'odd')}, check=check)
SMALL = {'made_up.length': 2, 'vit_classifier': 'token+prompt'}


class Prompt(base.Prompt):
  length: int
  width: int
  has_tokens = True

  def setup(self):
    self.tokens = self.param(
        'tokens', jax.nn.initializers.normal(0.1), (self.length, self.width))

  def select(self, query, task_index, **options):
    return base.Selection(losses={'size': jnp.sum(self.tokens ** 2)})

  def at_layer(self, layer, tokens, carry):
    if layer:
      return vit.LayerPrompt(), carry
    return vit.LayerPrompt(tokens=jnp.broadcast_to(
        self.tokens, (len(tokens), *self.tokens.shape))), carry


def build(config, backbone, stream):
  def end_task(state, task_index, probe):
    seen = np.arange(stream.num_tasks) <= task_index
    return state.replace(memory={**state.memory, 'made_up': {'seen': seen}})

  return base.Method(
      Prompt(config.made_up.length, backbone.width),
      {'size': config.made_up.weight}, end_task=end_task,
      memory=lambda params: {
          'made_up': {'seen': jnp.zeros(stream.num_tasks, bool)}})
'''
_RECIPE = '''
from promptcl.models import prompts
from tests.helpers import fakes

def get_config():
  return fakes.bare_config(
      dataset='npz:data.npz', init_checkpoint='vit.npz', num_epochs=1,
      per_device_batch_size=1)
'''
CHECKS = {name: check for name, check in vars(contract_test).items()
          if name.startswith('test_')
          and 'bench' in inspect.signature(check).parameters}


@pytest.fixture(name='made_up', scope='module', autouse=True)
def _made_up(tmp_path_factory):
  """The method's file, in a folder that is one more of the methods'."""
  folder = tmp_path_factory.mktemp('methods')
  (folder / f'{NAME}.py').write_text(_METHOD)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(prompts, '__path__', [*prompts.__path__, str(folder)])
    yield
  sys.modules.pop(f'{prompts.__name__}.{NAME}', None)
  vars(prompts).pop(NAME, None)


@pytest.fixture(name='bench', scope='module')
def _bench(made_up):
  return contract_test.Bench(fakes.config(**prompts.small(NAME)))


@pytest.mark.parametrize('name', CHECKS)
def test_it_keeps_the_contract(bench, name):
  check, [*marks] = CHECKS[name], getattr(CHECKS[name], 'pytestmark', ())
  if not marks:
    check(bench)
  for mark in marks:
    for value in mark.args[1]:
      check(bench, **{mark.args[0]: value})


def test_there_is_a_contract():
  assert len(CHECKS) >= 5


@pytest.fixture(name='here')
def _here(tmp_path, monkeypatch):
  """A folder with data, weights and a recipe of it."""
  monkeypatch.chdir(tmp_path)
  fakes.write_data(tmp_path / 'data.npz')
  fakes.write_checkpoint(tmp_path / 'vit.npz')
  (tmp_path / 'recipe.py').write_text(_RECIPE)
  return tmp_path


_TYPED = ('--my_config=recipe.py', '--workdir=run', '--dry_run',
          '--my_config.method=made_up', '--my_config.vit_classifier=token')


@pytest.mark.parametrize('typed, line', [
    ((), ''),
    (('--my_config.made_up.length=0',),
     'config.made_up.length is 0, must be positive'),
    (('--my_config.made_up.length=10',), 'made_up.length is more than 9'),
    (('--my_config.made_up.length=x',), '--my_config.made_up.length=x'),
    (('--my_config.made_up.kind=even',), 'must be one of plain, odd'),
    (('--my_config.made_up.lenght=2',),
     'made_up.lenght is unknown; did you mean length?'),
    (('--my_config.prompt_choice=random',), 'made_up has key only'),
    (("--my_config.comparisons=('oracle_prompt',)",),
     'the method made_up has no pool')])
def test_its_options_are_typed_and_checked_like_all(here, typed, line):
  done = command.run([*_TYPED, *typed])
  assert done.status == bool(line), done.stderr
  assert line in done.stderr and len(done.stderr.splitlines()) == bool(line)


@pytest.mark.slow
def test_a_run_of_it_tells_its_loss(here):
  recipe = importlib.util.spec_from_file_location('recipe', here / 'recipe.py')
  module = importlib.util.module_from_spec(recipe)
  recipe.loader.exec_module(module)
  config = module.get_config()
  config.update_from_flattened_dict(prompts.small(NAME))
  config = startup.expand(config)
  startup.check(config)
  (here / 'run').mkdir()
  program, stream = train.prepare(config)
  assert isinstance(program, program_lib.Program)
  assert train.train_and_evaluate(program, stream, 'run').finished
  report = json.loads((here / 'run/results.json').read_text())
  assert report['config']['made_up'] == {
      'kind': 'plain', 'length': 2, 'weight': 0.5}
  events = event_accumulator.EventAccumulator(
      'run', size_guidance={'tensors': 0})
  events.Reload()
  assert 'loss/size' in events.Tags()['tensors']
