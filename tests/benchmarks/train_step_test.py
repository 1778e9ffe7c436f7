# SPDX-License-Identifier: Apache-2.0
"""The benchmark runs, measures what it says, and needs no data libraries."""

import json
import subprocess
import sys

import jax
import pytest

from benchmarks import measure
from benchmarks import train_step
from tests.helpers import environment

pytestmark = pytest.mark.slow

FIGURES = [key for key, _, _ in train_step.COLUMNS]
SIZES = {'image_size': 16, 'batch': 2, 'steps': 1}


@pytest.fixture
def small_children(monkeypatch):
  """One device and quick compilation; speed itself is not looked at."""
  monkeypatch.setenv('XLA_FLAGS', environment.xla_flags(1))


@pytest.fixture
def cache_as_before():
  """Measuring turns the cache of compiled programs off."""
  before = jax.config.jax_enable_compilation_cache
  yield
  jax.config.update('jax_enable_compilation_cache', before)


@pytest.mark.usefixtures('small_children')
def test_a_table_has_all_figures_and_a_row_that_fails_costs_only_itself(
    tmp_path, capsys):
  path = tmp_path / 'benchmark.json'
  assert train_step.main([
      '--model', 'testing', '--image_size', '16', '--batch', '2', '--steps',
      '1', '--recipes', 'cifar100_l2p', '--dtypes', 'float32', '--scopes',
      'trainable', '--phases', 'sentences', 'train', 'query', '--output',
      str(path)]) == 1
  failed, train, query = json.loads(path.read_text())['rows']
  assert [r['phase'] for r in (failed, train, query)] == [
      'sentences', 'train', 'query']
  assert "no phase 'sentences'" in failed['error']
  for row in train, query:
    _check(row)
    assert row['num_devices'] == 1
  assert set(train['ratios'].values()) == {1.0}
  assert query['ratios']['flops_per_image'] == pytest.approx(
      query['flops_per_image'] / train['flops_per_image'])
  # 17 tokens against 57 with prompts, and no backward pass.
  assert query['ratios']['flops_per_image'] < 0.2
  told = capsys.readouterr().out
  assert 'failed: ' in told and told.count('cifar100_l2p') == 3


def _check(row):
  assert all(row[key] > 0 for key in FIGURES), row
  assert row['images_per_second'] == pytest.approx(
      row['batch'] * row['num_devices'] / row['seconds_per_step'])


@pytest.mark.usefixtures('cache_as_before')
@pytest.mark.parametrize('model, recipe, phase, dtype', [
    ('testing', 'cifar100_dualprompt', 'eval', 'bfloat16'),
    ('CLIP-testing', 'clip_pgp', 'sentences', 'float32'),
    ('CLIP-testing', 'it_prompt', 'train', 'float32')])
def test_any_phase_and_recipe_is_measured(model, recipe, phase, dtype):
  case = dict(model=model, recipe=recipe, phase=phase, dtype=dtype,
              scope='trainable', **SIZES)
  row = measure.measure(case)
  _check(row)
  assert case.items() <= row.items()
  assert recipe in train_step.line(row | {'ratios': {}})


def test_a_quick_table_has_a_row_of_each_phase_of_one_recipe():
  found = list(train_step.cases(train_step.parse(['--quick'])))
  assert found == [
      dict(recipe='cifar100_l2p', phase=phase, scope='trainable',
           dtype='float32', model='testing', **SIZES)
      for phase in ('train', 'query', 'eval')]


def test_cases_cover_scopes_for_training_only():
  options = train_step.parse([])
  found = [(c['recipe'], c['phase'], c['scope'], c['dtype'])
           for c in train_step.cases(options)]
  assert len(found) == len(set(found)) == 4 * 2 * (2 + 1 + 1)
  assert found[0] == ('cifar100_l2p', 'train', 'all', 'float32')


def test_measuring_needs_no_data_libraries():
  heavy = ('tensorflow', 'tensorflow_datasets', 'grain', 'cv2', 'sklearn',
           'matplotlib', 'orbax')
  code = ('import sys, benchmarks.measure;'
          f'print([m for m in {heavy!r} if m in sys.modules])')
  done = subprocess.run([sys.executable, '-c', code], cwd=train_step.ROOT,
                        capture_output=True, text=True, check=True)
  assert done.stdout.strip() == '[]'
