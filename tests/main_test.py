# Copyright 2026 The JAX Continual Prompting Authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""The command itself; what it says of wrong inputs is in `wrong_inputs`."""

import os
import subprocess
import sys

import pytest

from tests import fakes

_RECIPE = '''
import sys
from tests import fakes

def get_config():
  return fakes.bare_config(**{changes!r})
'''


@pytest.fixture
def recipe(tmp_path):
  """Writes a recipe over fake data; gives its path."""
  def write(**changes):
    folder = tmp_path / 'inputs'
    folder.mkdir(exist_ok=True)
    changes = {'dataset': fakes.write_data(folder / 'data.npz'),
               'init_checkpoint': fakes.write_checkpoint(folder / 'vit.npz'),
               'num_epochs': 1, 'per_device_batch_size': 8, **changes}
    path = folder / 'recipe.py'
    path.write_text(_RECIPE.format(changes=changes))
    return path
  return write


@pytest.fixture
def run_main(repository, tmp_path):
  """Runs main.py on one device from another folder; text of both streams."""
  def run(recipe, *arguments):
    return subprocess.run(
        [sys.executable, str(repository / 'main.py'), f'--my_config={recipe}',
         f'--workdir={tmp_path / "run"}', *arguments],
        env={**os.environ, 'XLA_FLAGS': ''}, cwd=tmp_path, text=True,
        capture_output=True, timeout=300, check=False)
  return run


def test_a_preset_is_laid_over_the_recipe_and_told(run_main, repository):
  recipe = f'{repository / "configs/digits_l2p.py"}:paper'
  done = run_main(recipe, '--my_config.num_epochs=1', '--dry_run',
                  '--my_config.pull_constraint_coeff=0.25')
  assert done.returncode == 0, done.stderr
  assert 'note: preset paper but for pull_constraint_coeff' in done.stdout


def test_debug_shows_the_traceback(recipe, run_main, tmp_path):
  done = run_main(recipe(method='l3p'), '--debug')
  assert done.returncode != 0
  assert 'Traceback' in done.stderr and 'l3p' in done.stderr
  assert not (tmp_path / 'run').exists()


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    recipe, run_main, tmp_path):
  path = recipe()
  before = sorted(tmp_path.rglob('*'))
  done = run_main(path, '--dry_run')
  assert done.returncode == 0, done.stderr
  # 6 * 20 training images, 3 tasks of 40 at batch 8, 6 * 7 test images.
  for word in ('l2p', 'testing', '3, 6 classes', '40 training images',
               '42 test images', '5 a task', '15 in all', 'trainable',
               'frozen', str(tmp_path / 'run')):
    assert word in done.stdout, word
  # The overview names each leaf that trains and no other.
  for leaf in ('head/kernel', 'prompt/prompt_pool/key'):
    assert leaf in done.stdout, leaf
  assert 'backbone/' not in done.stdout
  after = {p for p in tmp_path.rglob('*') if '__pycache__' not in str(p)}
  assert after == set(before)


def test_a_run_ends_with_tables(recipe, run_main, tmp_path):
  done = run_main(recipe(comparisons=('class_mean',)))
  assert done.returncode == 0, done.stderr
  assert (tmp_path / 'run/results.json').is_file()
  assert 'avg_acc' in done.stdout and 'forgetting' in done.stdout
  assert 'nearest class mean' in done.stdout
