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
"""Controls on the same data and backbone, because a number means little alone.

  class_mean  nearest class mean of the frozen class token; nothing is trained
  frozen      frozen backbone, only a linear head on the class token trains
  finetune    plain sequential fine-tuning: the whole network trains, the loss
              sees all classes
"""

import pathlib
from typing import Any

import jax
from jax.experimental import multihost_utils
import ml_collections
import numpy as np

from train_lib import parallel
from train_lib import program as program_lib
from train_lib import startup
from train_lib import state as state_lib
from train_lib import tables
from train_lib import train
from train_lib.results import Results
from train_lib.results import Scores

_NO_PROMPTS = dict(method='none', vit_classifier='token', comparisons=(),
                   eval_selection='config')
# Published fine-tuning baselines of this family use SGD or Adam at small rates;
# this is the usual rate for fine-tuning a ViT with SGD.
OVERRIDES = {
    'frozen': dict(_NO_PROMPTS),
    'finetune': dict(_NO_PROMPTS, freeze_part=(), optim='sgd',
                     learning_rate=0.05, train_mask=False),
}
TITLES = {
    'class_mean': 'frozen backbone, nearest class mean',
    'frozen': 'frozen backbone + linear head',
    'finetune': 'sequential fine-tuning',
}


def override(config: Any, name: str) -> Any:
  """The config of a control."""
  changed = ml_collections.ConfigDict(config)
  for key, value in OVERRIDES[name].items():
    group = changed.continual if key == 'train_mask' else changed
    group[key] = value
  return startup.expand(changed)


def run(program: program_lib.Program, stream: Any, workdir: str,
        results: Results) -> str:
  """Runs the config's controls and returns the table of all scores.

  Args:
    program, stream, results: of the run that is compared with.
    workdir: each control that trains has a folder below `comparisons` in it.
  """
  config = program.config
  rows = {config.method: results.summary()}
  for name in config.comparisons:
    if name == 'class_mean':
      control = class_mean(program, stream)
    else:
      folder = pathlib.Path(workdir) / 'comparisons' / name
      folder.mkdir(parents=True, exist_ok=True)
      other = program_lib.create(override(config, name), stream.num_classes)
      control = train.train_and_evaluate(other, stream, str(folder))
    rows[TITLES[name]] = control.summary()
  return tables.comparison_table(rows)


def class_mean(program: program_lib.Program, stream: Any) -> Results:
  """Nearest class mean on L2-normalised class-token features.

  Means come from the training images of each task as it arrives, prepared as
  for a test; after task t the classes seen so far compete.
  """
  features = _Features(program)
  results = Results(len(stream.tasks), [e.name for e in stream.eval_sets],
                    'per_sample')
  tests = {}
  means = np.full((stream.num_classes, features.width), np.nan)
  for task in stream.tasks:
    x, y = features(stream.clean_batches(task))
    for column in np.flatnonzero(task.class_mask):
      means[column] = _unit(x[y == column].mean(axis=0))
    for index in task.eval_sets:
      if index not in tests:
        tests[index] = features(
            stream.eval_batches(stream.eval_sets[index]))
    results.record(task.index, {
        i: _score(*tests[i], means) for i in task.eval_sets})
  return results


def _unit(x: np.ndarray) -> np.ndarray:
  return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def _score(x: np.ndarray, y: np.ndarray, means: np.ndarray) -> Scores:
  seen = ~np.isnan(means[:, 0])
  logits = np.where(seen, x @ np.where(seen[:, None], means, 0).T, -np.inf)
  right = int(np.sum(np.argmax(logits, axis=1) == y))
  return Scores(total=len(y), correct={'per_sample': right}, loss=np.nan)


class _Features:
  """Class-token features of the frozen backbone for host batches."""

  def __init__(self, program: program_lib.Program):
    frozen, _ = program.start()
    backbone = {k: v for k, v in frozen.items() if k.startswith('backbone/')}
    self.width = program.model.backbone.width
    self._frozen = parallel.replicate(backbone)
    self._query = parallel.pmap(lambda params, images: program.model.apply(
        state_lib.variables(params), images, method='class_token'))

  def __call__(self, batches: Any) -> tuple[np.ndarray, np.ndarray]:
    """-> features [N, D] of unit length, labels [N], padding left out."""
    found = []
    for batch in batches:
      image = parallel.shard(batch['image'])
      x = jax.device_get(self._query(self._frozen, image))
      found.append((x.reshape(-1, self.width), batch['label'], batch['mask']))
    mine = tuple(np.concatenate(parts) for parts in zip(*found, strict=True))
    x, y, mask = multihost_utils.process_allgather(mine, tiled=True)
    return _unit(x[mask > 0]), y[mask > 0]
