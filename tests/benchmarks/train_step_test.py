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
"""The benchmark runs, measures what it says, and needs no data libraries."""

import json
import subprocess
import sys

import pytest

from benchmarks import train_step

FIGURES = [key for key, _, _ in train_step.COLUMNS]


@pytest.fixture(autouse=True)
def plain_xla(monkeypatch):
  """One device and quick compilation; speed itself is not looked at."""
  monkeypatch.setenv('XLA_FLAGS', '--xla_backend_optimization_level=0')
  monkeypatch.setenv('JAX_PLATFORMS', 'cpu')


def test_quick_run_writes_every_figure(tmp_path, capsys):
  path = tmp_path / 'benchmark.json'
  assert train_step.main(['--quick', '--output', str(path)]) == 0
  train, query, evaluation = json.loads(path.read_text())['rows']
  assert [r['phase'] for r in (train, query, evaluation)] == [
      'train', 'query', 'eval']
  for row in train, query, evaluation:
    assert all(row[key] > 0 for key in FIGURES), row
    assert row['images_per_second'] == pytest.approx(
        row['batch'] / row['seconds_per_step'])
  assert set(train['ratios'].values()) == {1.0}
  assert query['ratios']['flops_per_image'] == pytest.approx(
      query['flops_per_image'] / train['flops_per_image'])
  # 17 tokens against 57 with prompts, and no backward pass.
  assert query['ratios']['flops_per_image'] < 0.2
  assert 'cifar100_l2p' in capsys.readouterr().out


def test_a_row_that_fails_costs_only_itself(tmp_path, capsys):
  path = tmp_path / 'benchmark.json'
  assert train_step.main([
      '--model', 'testing', '--image_size', '16', '--steps', '1', '--recipes',
      'no_such_recipe', 'cifar100_dualprompt', '--dtypes', 'bfloat16',
      '--phases', 'query', '--output', str(path)]) == 1
  failed, measured = json.loads(path.read_text())['rows']
  assert 'no_such_recipe' in failed['error']
  assert set(measured['ratios'].values()) == {1.0}
  assert 'failed: ' in capsys.readouterr().out


@pytest.mark.parametrize(('recipe', 'phase'), [
    ('cifar100_clip_pgp', 'sentences'), ('cifar100_it_prompt', 'train')])
def test_recipes_of_two_towers_are_measured(tmp_path, recipe, phase):
  path = tmp_path / 'benchmark.json'
  assert train_step.main([
      '--model', 'CLIP-testing', '--image_size', '16', '--steps', '1',
      '--batch', '2', '--recipes', recipe, '--dtypes', 'float32', '--scopes',
      'trainable', '--phases', phase, '--output', str(path)]) == 0
  (row,) = json.loads(path.read_text())['rows']
  assert all(row[key] > 0 for key in FIGURES), row


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
