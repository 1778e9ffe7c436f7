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
"""The controls beside a run."""

import numpy as np
import pytest

from tests import fakes
from train_lib import comparisons
from train_lib import state as state_lib
from train_lib import train


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  return train.prepare(fakes.config(tmp_path_factory.mktemp('comparisons')))


def _bare_features(program, batches):
  """Class tokens of the plain ViT, unit length, padding left out."""
  frozen, _ = program.start()
  xs, ys = [], []
  for batch in batches:
    x = program.model.apply(state_lib.variables(frozen), batch['image'],
                            method='class_token')
    real = batch['mask'] > 0
    xs.append(np.asarray(x)[real])
    ys.append(batch['label'][real])
  x = np.concatenate(xs)
  return x / np.linalg.norm(x, axis=1, keepdims=True), np.concatenate(ys)


def test_class_means_by_hand(prepared):
  program, stream = prepared
  results = comparisons.class_mean(program, stream)
  assert results.headline == 'per_sample'
  np.testing.assert_array_equal(results.totals, [14, 14, 14])
  means = []
  for task in stream.tasks:
    x, y = _bare_features(program, stream.clean_batches(task))
    assert len(x) == 40
    means += [x[y == c].mean(0) for c in np.flatnonzero(task.class_mask)]
  means = np.stack([m / np.linalg.norm(m) for m in means])
  for t in range(3):
    for i in range(t + 1):
      x, y = _bare_features(program, stream.eval_batches(stream.eval_sets[i]))
      seen = x @ means[:2 * t + 2].T
      right = np.sum(np.argmax(seen, axis=1) == y)
      assert results.correct['per_sample'][t, i] == right


def test_a_frozen_backbone_trains_its_head_alone(prepared):
  config = comparisons.override(prepared[0].config, 'frozen')
  model, _ = fakes.tiny_model(config)
  params = fakes.random_params(model)
  assert state_lib.trainable_paths(params, config.freeze_part) == {
      'head/kernel', 'head/bias'}
  assert config.continual.train_mask


def test_fine_tuning_trains_everything_on_all_classes(prepared):
  config = comparisons.override(prepared[0].config, 'finetune')
  model, _ = fakes.tiny_model(config)
  params = fakes.random_params(model)
  assert state_lib.trainable_paths(params, config.freeze_part) == set(params)
  assert not config.continual.train_mask
  assert not any(path.startswith('prompt/') for path in params)


def test_a_control_never_starts_controls_and_keeps_the_rest(prepared):
  config = fakes.changed(prepared[0].config, comparisons=('frozen',), seed=9)
  for name in comparisons.OVERRIDES:
    control = comparisons.override(config, name)
    assert control.comparisons == ()
    assert control.seed == 9
    assert control.dataset == config.dataset
    assert control.continual.num_tasks == config.continual.num_tasks
