# SPDX-License-Identifier: Apache-2.0
"""The wheel works outside the checkout and claims one name."""

import os
import pathlib
import re
import site
import subprocess
import sys
import tomllib
import zipfile

import pytest

import promptcl

pytestmark = pytest.mark.slow


def _run(*command, folder, **environment):
  done = subprocess.run(
      [str(word) for word in command], cwd=folder, text=True, check=False,
      capture_output=True, env={**os.environ, **environment})
  assert done.returncode == 0, done.stdout + done.stderr
  return done.stdout


@pytest.fixture(name='wheel', scope='module')
def _wheel(repository, tmp_path_factory):
  folder = tmp_path_factory.mktemp('wheel')
  _run(sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps',
       '--no-index', '--no-build-isolation', '--wheel-dir', folder, repository,
       folder=folder)
  [path] = folder.glob('*.whl')
  return path


def test_a_wheel_claims_one_name_and_has_all_recipes(wheel, repository):
  names = zipfile.ZipFile(wheel).namelist()
  [other] = {name.split('/')[0] for name in names} - {'promptcl'}
  assert other == f'promptcl-{promptcl.__version__}.dist-info'
  assert 'promptcl/py.typed' in names and 'promptcl/main.py' in names
  assert {f'promptcl/configs/{path.name}'
          for path in (repository / 'configs').glob('*.py')} < set(names)
  assert not [name for name in names if name.endswith('_test.py')]


def test_it_runs_from_another_folder_in_an_environment_of_its_own(
    wheel, tmp_path):
  """Dependencies come from the environment of the tests."""
  _run(sys.executable, '-m', 'venv', '--without-pip', 'env', folder=tmp_path)
  [packages] = (tmp_path / 'env').glob('lib/python*/site-packages')
  (packages / 'dependencies.pth').write_text(
      '\n'.join(site.getsitepackages()))
  _run(sys.executable, '-m', 'pip', '--python', tmp_path / 'env/bin/python',
       'install', '--quiet', '--no-index', '--no-deps', wheel, folder=tmp_path)
  told = _run(tmp_path / 'env/bin/promptcl', '--my_config',
              'configs/digits_l2p.py', '--workdir', 'run', '--dry_run',
              folder=tmp_path, PYTHONPATH='')
  assert str(packages / 'promptcl/models/weights') in told  # shipped ones
  assert not (tmp_path / 'run').exists()
  place = _run(tmp_path / 'env/bin/python', '-c',
               'from promptcl.train_lib import train; print(train.__file__)',
               folder=tmp_path, PYTHONPATH='')
  assert pathlib.Path(place.strip()).is_relative_to(packages)


def test_it_asks_for_what_the_requirements_pin(repository):
  pinned = (repository / 'requirements.txt').read_text()
  runtime, _, _ = pinned.partition('# Development')
  project = tomllib.loads((repository / 'pyproject.toml').read_text())
  assert project['project']['dependencies'] == [
      line.replace('==', '>=')
      for line in re.findall(r'^[\w-]+==[\w.]+', runtime, re.MULTILINE)]
