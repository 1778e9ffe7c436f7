# SPDX-License-Identifier: Apache-2.0
"""One command measures the product where next to nothing is installed."""

import importlib.metadata
import importlib.util
import json
import subprocess
import sys

from packaging import requirements
from packaging import utils
import pytest

from benchmarks import accelerator
from benchmarks import accelerator_cases
from benchmarks import accelerator_table
from benchmarks import measure
from promptcl.configs import base as defaults
from promptcl.train_lib.startup import config_values
from tests.helpers import environment

pytestmark = pytest.mark.slow

OURS = ('benchmarks', 'promptcl')
# What a machine with an accelerator has, or what travels there as files.
INSTALLED = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'ml-collections',
             'absl-py')
# Runs what follows as if nothing else were installed: the rest is not found,
# so that libraries do without what they only try to import.
BARE = '''
import sys
from importlib import machinery

allowed = {*sys.argv.pop(1).split(','), *sys.stdlib_module_names}

class Bare(machinery.PathFinder):
  @classmethod
  def find_spec(cls, name, path=None, target=None):
    top = name.partition('.')[0]
    if top in allowed or top.startswith('_sysconfigdata'):  # is not listed
      return super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(machinery.PathFinder)] = Bare
'''


@pytest.fixture(scope='module')
def installed():
  """Names to import that pip brings with `INSTALLED`, and ours.

  Which are: what these packages require without extras, and what that does in
  turn (flax brings orbax, and orbax etils, for example).
  """
  found, todo = set(), list(INSTALLED)
  while todo:
    name = utils.canonicalize_name(todo.pop())
    if name not in found:
      found.add(name)
      todo += [needed.name for needed in map(
          requirements.Requirement, importlib.metadata.requires(name) or ())
               if not needed.marker or needed.marker.evaluate({'extra': ''})]
  return {*OURS, *(module for module, packages in
                   importlib.metadata.packages_distributions().items()
                   if found & {*map(utils.canonicalize_name, packages)})}


def _bare(allowed, code, *args):
  """Runs code in a process that finds these modules only."""
  return subprocess.run(
      [sys.executable, '-c', BARE + code, ','.join(allowed), *args],
      cwd=environment.ROOT, env=environment.of_child(), text=True,
      capture_output=True, check=False)


def test_the_command_needs_nothing_else(installed, tmp_path):
  path, folder = tmp_path / 'found.json', tmp_path / 'profile'
  done = _bare(
      installed, 'from benchmarks import accelerator\n'
      'sys.exit(accelerator.main())', '--small', '--output', str(path),
      '--profile', str(folder), '--rows', 'bfloat16', 'copy', 'base', 'VQ')
  assert done.returncode == 0, done.stdout + done.stderr
  results = json.loads(path.read_text())
  product, copy, *steps = results['rows']
  assert product['per_second'] > 0 and copy['per_second'] > 0
  assert [row['name'] for row in steps] == [
      'base: train', 'base: query', 'base: evaluation', 'VQ-Prompt']
  for row in steps:
    _check(row, product['per_second'])
  assert [row['scope'] for row in steps] == ['all'] * 3 + ['trainable']
  assert results['card'] == 'cpu' and results['versions']['jax']
  told = done.stdout
  assert all(row['name'] in told for row in results['rows'])
  _check_dearest((folder / 'dearest.txt').read_text(), told)


def _check(row, ceiling):
  for key in ('images_per_second', 'planned_bytes', 'peak_bytes',
              'compile_seconds', 'wall_seconds'):
    assert row[key] > 0, row
  assert row['share'] == pytest.approx(
      row['images_per_second'] * row['product_flops_per_image'] / ceiling)
  # XLA also counts what is no product, which weighs at this size, and for the
  # evaluation the comparison of selections, which is off.
  assert 0 < row['product_flops_per_image'] < row['flops_per_image']


def _check_dearest(text, told):
  title, *lines = text.splitlines()
  assert title.split() == ['ms', 'a', 'step', 'share', 'operation']
  assert len(lines) == 11 and all(line in told for line in lines)
  assert 'encoderblock_*/MultiHeadDotProductAttention_0' in text
  assert not any('encoderblock_0' in line for line in lines)


@pytest.mark.parametrize('name', ['cv2', 'clu', 'safetensors', 'tensorflow'])
def test_what_is_not_on_the_list_is_not_found(name, installed):
  assert importlib.util.find_spec(name) and name not in installed
  done = _bare(installed, f'import {name}')
  assert done.returncode == 1
  assert f"No module named '{name}'" in done.stderr


@pytest.fixture
def measured(monkeypatch):
  """Names of cases, as they are measured in no time; the query fails."""
  names = []

  def measure_case(case):
    names.append(case['name'])
    if case['name'] == 'base: query':
      raise MemoryError('no room for it\nin 20 lines')
    return dict(case, ceiling='copy', per_second=1.0, size=1)

  monkeypatch.setattr(accelerator, 'measurer', lambda profile: measure_case)
  return names


def test_a_row_that_fails_costs_only_itself(measured, tmp_path, capsys):
  path = tmp_path / 'found.json'
  assert accelerator.main(['--small', '--output', str(path)]) == 1
  rows = json.loads(path.read_text())['rows']
  assert [row['name'] for row in rows] == measured and len(rows) == 14
  errors = {row['name']: row['error'] for row in rows if 'error' in row}
  assert errors == {'base: query': 'MemoryError: no room for it'}
  assert 'failed: MemoryError' in capsys.readouterr().out


def test_a_run_that_is_cut_has_told_what_it_measured(
    measured, tmp_path, monkeypatch):
  path, left = tmp_path / 'found.json', []
  def cut(row):
    left.append([r['name'] for r in json.loads(path.read_text())['rows']])
    if len(left) == 3:
      raise KeyboardInterrupt
    return row['name']

  monkeypatch.setattr(accelerator_table, 'line', cut)
  with pytest.raises(KeyboardInterrupt):
    accelerator.main(['--small', '--output', str(path)])
  assert left == [measured[:1], measured[:2], measured[:3]]
  assert [p.name for p in tmp_path.iterdir()] == ['found.json']


def test_a_row_without_time_left_is_skipped():
  now = 0.0
  def measure_case(case):
    nonlocal now
    now += case['takes']
    return dict(case)

  todo = [dict(name=str(i), takes=takes) for i, takes in enumerate(
      (2.0, 5.0, 1.0, 1.0))]
  found = list(accelerator.rows(todo, measure_case, end=13.0,
                                clock=lambda: now))
  # After 8 of 13 seconds, 5 more would be as much as there is.
  assert [row.get('wall_seconds') for row in found] == [2.0, 5.0, 1.0, None]
  assert found[-1] == dict(todo[-1], skipped='no time left')
  assert accelerator_table.line(found[-1]).split() == [
      '3', 'skipped:', 'no', 'time', 'left']


@pytest.mark.parametrize('seconds, expected', [
    (None, 3), (0.0, 3), (0.5, 3), (1.0, 5), (1.1, 6)])
def test_as_many_steps_as_fill_the_time(seconds, expected):
  class Step:
    def run(self, count):
      return {1: 0.2}[count], 0.1

  assert measure.num_steps(dict(steps=3, seconds=seconds), Step()) == expected


def test_rows_change_one_thing_of_the_base():
  _, _, _, _, base, *others = accelerator_cases.cases(accelerator.parse([]))
  assert len(others) == 9 and base['batch'] == 128
  for row in others:
    assert len([k for k in base if row[k] != base[k]]) == 2, row  # the name too


def test_a_new_way_to_do_the_same_has_a_row():
  config = defaults.get_config()
  config.attention, config.device_views = 'written_out', False
  choices = config_values.rules().choices | {
      'attention': ('written_out', 'library')}
  ways = list(accelerator_cases.other_ways(config, choices))
  assert ways == [('attention', 'library'), ('device_views', True)]
  names = [name for name, _ in accelerator_cases.changes(128, ways)]
  assert names[3:5] == ['attention library', 'device_views True']
  assert len(names) <= 14


@pytest.mark.parametrize('flags, told', [
    ((), 'JAX finds no accelerator here'),
    (('--small', '--rows', 'nix'), 'no row has nix in its name'),
    (('--small', '--output', '{folder}/none/a.json'),
     "none/a.json' cannot be written: No such file"),
    (('--small', '--profile', '{folder}/text'), 'exists'),
    (('--markdown', '{folder}/text'), 'holds no results of this command'),
    (('--markdown', '{folder}/none'), 'No such file')])
def test_what_cannot_be_done_is_one_line(flags, told, tmp_path, capsys):
  (tmp_path / 'text').write_text('no JSON')
  assert accelerator.main([f.format(folder=tmp_path) for f in flags]) == 1
  line, = capsys.readouterr().err.splitlines()
  assert line.startswith('error: ') and told in line


def test_a_file_of_results_becomes_a_table(tmp_path, capsys):
  path = tmp_path / 'found.json'
  step = dict(
      name='base: train', images_per_second=1234.0, share=0.5,
      product_flops_per_image=2e9, planned_bytes=2**30, peak_bytes=None,
      compile_seconds=3.0, wall_seconds=9.0)
  path.write_text(json.dumps(dict(
      card='A Card', num_devices=1, driver='1.2', platform_version='cuda 13',
      python='3.12.1', versions=dict(jax='0.10'), date='2026-01-02T03:04:05',
      revision=None, rows=[
          dict(name='copy', ceiling='copy', per_second=3e12, size=2**28), step,
          dict(name='PGT', error='MemoryError: no'),
          dict(name='VQ-Prompt', skipped='no time left')])))
  assert accelerator.main(['--markdown', str(path)]) == 0
  told = capsys.readouterr().out.splitlines()
  assert told[0] == ('2026-01-02, 1 x A Card, driver 1.2, cuda 13; jax 0.10, '
                     'Python 3.12.1; revision unknown')
  assert told[4] == '| copy | 3000 GB/s read and written, 1024 MiB |'
  assert told[8] == '| base: train | 1234 | 50.0% | 2 | 1 | - | 3 | 9 |'
  assert told[9].startswith('| PGT | failed: MemoryError: no |')
  assert told[10].startswith('| VQ-Prompt | skipped: no time left |')
