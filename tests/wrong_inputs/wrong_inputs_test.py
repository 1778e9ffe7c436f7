# SPDX-License-Identifier: Apache-2.0
"""Wrong inputs: one line, exit status 1, and nothing is half-written."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from promptcl.train_lib.resume import workdir
from tests.helpers import fakes
from tests.wrong_inputs import command
from tests.wrong_inputs import page
from tests.wrong_inputs import random_configs
from tests.wrong_inputs import row as row_lib

ROWS = [pytest.param(row, id=f'{title}: {row.what}')
        for title, rows in page.GROUPS.items() for row in rows]
_IN_A_SHELL = ('an error in the recipe', 'a checkpoint of another state')


@pytest.fixture(name='good', scope='module')
def _good(tmp_path_factory):
  """A folder with all that a run needs."""
  folder = tmp_path_factory.mktemp('good')
  row_lib.write_good(folder)
  return folder


@pytest.fixture(name='spoilt')
def _spoilt(good, tmp_path, monkeypatch):
  """Makes a copy of that folder the current one, with a row's wrong file."""
  def make(row):
    folder = tmp_path / 'here'
    shutil.copytree(good, folder)
    monkeypatch.chdir(folder)
    row.spoil(folder)
    return folder

  return make


def _contents(folder):
  return {path.relative_to(folder): path.is_file() and path.read_bytes()
          for path in folder.rglob('*') if '__pycache__' not in path.parts}


@pytest.mark.parametrize('row', ROWS)
def test_a_wrong_input_is_one_line_and_changes_nothing(row, spoilt):
  folder = spoilt(row)
  before = _contents(folder)
  done = command.run(row.arguments)
  assert done.status == 1
  assert row_lib.seen(done.stderr, folder) == f'error: {row.line}\n'
  assert _contents(folder) == before


@pytest.mark.parametrize('row', [
    param for param in ROWS if param.values[0].what in _IN_A_SHELL])
def test_a_shell_sees_the_same(row, spoilt, repository):
  folder = spoilt(row)
  done = subprocess.run(
      [sys.executable, str(repository / 'main.py'), *row.arguments],
      text=True, capture_output=True, timeout=300, check=False, env={
          **os.environ, 'PYTHONDONTWRITEBYTECODE': '1'})
  assert done.returncode == 1
  assert row_lib.seen(done.stderr, folder) == f'error: {row.line}\n'


def test_what_is_not_spoilt_runs(spoilt):
  spoilt(row_lib.Row('nothing', '', ''))
  done = command.run(['--my_config=recipe.py', '--workdir=run', '--dry_run'])
  assert (done.status, done.stderr) == (0, '')
  assert not pathlib.Path('run').exists()


def test_the_page_in_the_docs_is_up_to_date(repository):
  written = (repository / 'docs/wrong_inputs.md').read_text()
  assert written == page.page(), 'python -m tests.wrong_inputs > docs/...'


def test_every_row_says_something_of_its_own():
  assert len(ROWS) >= 75
  whats = [param.id for param in ROWS]
  assert len(set(whats)) == len(whats)


@pytest.fixture(name='tiny', scope='module')
def _tiny(good):
  return fakes.bare_config(dataset=f'npz:{good}/data.npz', num_epochs=1,
                           init_checkpoint=f'{good}/vit.npz')


@pytest.mark.slow
def test_random_configs_run_or_are_refused(tiny, tmp_path):
  good, refused = random_configs.accepted(45, tiny, derandomize=True)
  assert refused.total() >= 5 and len(good) >= 5
  for i, changed in enumerate(random_configs.spread(good, 1)):
    assert not random_configs.attempt(tiny, changed, str(tmp_path / str(i)))


_NAMES = ('*.npz', '../*', '$(touch made)', '`touch made`', '; touch made',
          '{}', '{0.__class__}', '%s%n', '~no-such-user', '|touch made')


@pytest.mark.parametrize('key', [
    'dataset=npz:', 'dataset=folder:', 'init_checkpoint=', 'dataset='])
def test_names_are_nothing_but_names(key, spoilt):
  folder = spoilt(row_lib.Row('nothing', '', ''))
  before = _contents(folder)
  for name in _NAMES:
    done = command.run(['--my_config=recipe.py', '--workdir=run',
                        f'--my_config.{key}{name}'])
    assert done.status == 1 and name in done.complaint
    assert len(done.complaint.splitlines()) == 1
  assert _contents(folder) == before


@pytest.mark.parametrize('name', ['*$(touch made)', '~{}%s `x`', ';|&'])
def test_files_of_strange_names_are_read(name, spoilt):
  folder = spoilt(row_lib.Row('nothing', '', ''))
  for file in 'data', 'vit':
    (folder / f'{file}.npz').rename(folder / f'{file}{name}.npz')
  before = _contents(folder)
  done = command.run([
      '--my_config=recipe.py', '--dry_run', f'--workdir={name}',
      f'--my_config.dataset=npz:data{name}.npz',
      f'--my_config.init_checkpoint=vit{name}.npz'])
  assert (done.status, done.stderr) == (0, '')
  assert _contents(folder) == before
  workdir.make(name)
  assert _contents(folder).keys() - before.keys() == {pathlib.Path(name)}
