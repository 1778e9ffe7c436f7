# SPDX-License-Identifier: Apache-2.0
"""The command itself; what it says of wrong inputs is in `wrong_inputs`."""

import json
import subprocess
import sys

import pytest

from promptcl.configs import listing
from tests.helpers import environment
from tests.helpers import fakes
from tests.input_pipeline import small_data

pytestmark = pytest.mark.slow

_RECIPE = '''
import sys
from tests.helpers import fakes

def get_config():
  return fakes.bare_config(**{changes!r})
'''
# Types one command after the other, in one process that JAX starts for all.
_SESSION = '''
import json, sys
from tests.wrong_inputs import command
from promptcl.train_lib import run

SLOW = ('tensorflow', 'tensorflow_datasets', 'matplotlib', 'orbax.checkpoint')
loaded = lambda: [name for name in SLOW if name in sys.modules]
before_log, open_log = [], run.open_log
run.open_log = lambda *args: (before_log.extend(loaded()), open_log(*args))[1]
for arguments in json.loads(sys.argv[1]):
  done = command.run(arguments)
  print(json.dumps([done.status, done.stdout, done.stderr, loaded(),
                    before_log]), flush=True)
'''


def _write_recipe(folder, **changes):
  """A recipe over fake data; gives its path."""
  folder.mkdir(exist_ok=True)
  changes = {'dataset': fakes.write_data(folder / 'data.npz'),
             'init_checkpoint': fakes.write_checkpoint(folder / 'vit.npz'),
             'num_epochs': 1, 'per_device_batch_size': 8, **changes}
  path = folder / 'recipe.py'
  path.write_text(_RECIPE.format(changes=changes))
  return path


@pytest.fixture(name='session', scope='module')
def _session(tmp_path_factory, repository):
  """(folder, {command: [status, stdout, stderr, slow modules, ...]})."""
  folder = tmp_path_factory.mktemp('session')
  recipe = _write_recipe(folder / 'inputs', comparisons=('class_mean',))
  for label in 'ab':
    for i in range(20):
      small_data.write_picture(folder / f'pets/{label}/{i}.png', i)
  digits = repository / 'configs/digits_l2p.py'
  plan = [f'--my_config={recipe}', f'--workdir={folder}/run', '--dry_run']
  commands = {
      'help': ['--help'],
      'list': ['--list'],
      'wrong flag': [*plan, '--my_confg=x'],
      'wrong key': [*plan, '--my_config.learning_rat=1'],
      'dry run': plan,
      'dry run of a folder': [
          *plan, f'--my_config.dataset=folder:{folder}/pets',
          '--my_config.continual.num_tasks=2',
          '--my_config.continual.num_classes_per_task=1'],
      'dry run under a preset': [
          f'--my_config={digits}:paper', f'--workdir={folder}/run',
          '--my_config.num_epochs=1', '--dry_run',
          '--my_config.pull_constraint_coeff=0.25'],
      'dry run of a stream under a preset': [
          f'--my_config={repository}/configs/l2p.py:paper,imr',
          f'--workdir={folder}/run', '--dry_run',
          f'--my_config.dataset=npz:{folder}/inputs/data.npz',
          f'--my_config.init_checkpoint={folder}/inputs/vit.npz',
          *(f'--my_config.{change}' for change in (
              'model_name=testing', 'input_size=16', 'resize_size=16',
              'continual.num_tasks=3', 'continual.num_classes_per_task=2'))],
      'run': [f'--my_config={recipe}', f'--workdir={folder}/run']}
  before = {path for path in folder.rglob('*')}
  done = subprocess.run(
      [sys.executable, '-c', _SESSION, json.dumps(list(commands.values()))],
      env=environment.of_child(), cwd=folder, text=True, capture_output=True,
      timeout=300, check=False)
  told = [json.loads(line) for line in done.stdout.splitlines()]
  assert len(told) == len(commands), done.stderr
  made = {path for path in folder.rglob('*') if '__pycache__' not in str(path)}
  return folder, dict(zip(commands, told, strict=True)), made - before


def test_a_preset_is_laid_over_the_recipe_and_told(session):
  status, output, errors, *_ = session[1]['dry run under a preset']
  assert status == 0, errors
  assert 'note: preset paper but for pull_constraint_coeff' in output


def test_a_stream_and_a_preset_in_any_order(session):
  status, output, errors, *_ = session[1]['dry run of a stream under a preset']
  assert status == 0, errors
  assert '(50 epochs)' in output  # of the stream, with this method
  assert '800' in output.split()  # of 10 prompts of 5 tokens, as in the paper


def test_a_dry_run_prints_the_plan_and_writes_nothing(session):
  folder, told, made = session
  status, output, errors, *_ = told['dry run']
  assert status == 0, errors
  # 6 * 20 training images, 3 tasks of 40 at batch 8, 6 * 7 test images.
  for word in ('l2p', 'testing', '3, 6 classes', '40 training images',
               '42 test images', '5 a task', '15 in all', 'trainable',
               'frozen', f'{folder}/run'):
    assert word in output, word
  # The overview names each leaf that trains and no other.
  for leaf in ('head/kernel', 'prompt/prompt_pool/key'):
    assert leaf in output, leaf
  assert 'backbone/' not in output
  # What there is now is of the run behind the dry ones.
  assert {path.relative_to(folder).parts[0] for path in made} == {'run'}


def test_nothing_that_is_slow_to_import_is_imported_before_it_is_needed(
    session):
  """A run needs TensorFlow for its first event and not before."""
  *without, run = session[1].items()
  statuses = {name: told[0] for name, told in without}
  assert statuses == {
      'help': statuses['help'], 'list': 0, 'wrong flag': 1, 'wrong key': 1,
      'dry run': 0, 'dry run of a folder': 0, 'dry run under a preset': 0,
      'dry run of a stream under a preset': 0}
  assert 'init_checkpoint' in session[1]['wrong flag'][2] or (
      'my_confg' in session[1]['wrong flag'][2])
  assert 'learning_rat is unknown' in session[1]['wrong key'][2]
  for name, (*_, loaded, _) in without:
    assert loaded == [], name
  status, _, errors, loaded, before_log = run[1]
  assert status == 0, errors
  assert not {'tensorflow', 'tensorflow_datasets'} & set(before_log)
  assert 'tensorflow' in loaded


def test_all_recipes_are_told_as_they_are_typed(session):
  told = session[1]['list'][1]
  assert told.strip() == listing.text()


def test_debug_shows_the_traceback(tmp_path, repository):
  recipe = _write_recipe(tmp_path / 'inputs', method='l3p')
  done = subprocess.run(
      [sys.executable, str(repository / 'main.py'), f'--my_config={recipe}',
       f'--workdir={tmp_path / "run"}', '--debug'],
      env=environment.of_child(), cwd=tmp_path, text=True, capture_output=True,
      timeout=300, check=False)
  assert done.returncode != 0
  assert 'Traceback' in done.stderr and 'l3p' in done.stderr
  assert not (tmp_path / 'run').exists()


def test_a_run_ends_with_tables(session):
  folder, told, _ = session
  status, output, errors, *_ = told['run']
  assert status == 0, errors
  assert (folder / 'run/results.json').is_file()
  assert 'avg_acc' in output and 'forgetting' in output
  assert 'nearest class mean' in output
