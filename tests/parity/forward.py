# SPDX-License-Identifier: Apache-2.0
"""Forward passes: query, selection, prompted pass, read-out."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from promptcl.models import classifier
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.steps import train_step as steps
from tests.parity import bridge
from tests.parity import tolerances as tol
from tests.parity.fixture import Fixture
from tests.parity.fixture import Unsupported
from tests.parity.report import Report


def run(fixture: Fixture, report: Report) -> None:
  """Every case of the file."""
  common = fixture.under('params')
  for name, case in fixture.cases().items():
    _case(fixture, report, f'case/{name}', case, common)
  if 'query_features' in fixture:
    config, images = bridge.expand(fixture.meta), fixture['images']
    model = _model(fixture, config, images)
    got = _class_token(model, bridge.params(common, config), images)
    report.compare('query_features', got, fixture['query_features'],
                   tol.FEATURES, remark='plain ViT')


def _case(fixture: Fixture, report: Report, name: str,
          case: Mapping[str, Any], common: Mapping[str, np.ndarray]) -> None:
  own = f'{name}/images'
  images = fixture[own if own in fixture else 'images']
  config, task_index = _selection(fixture, name, case)
  model = _model(fixture, config, images)
  params = bridge.params(
      {**common, **fixture.under(f'{name}/params')}, config)
  train = case.get('mode', 'eval') == 'train'
  got = _forward(model, params, images, task_index, train)
  if f'{name}/out/query_features' in fixture and 'query_features' not in got:
    got['query_features'] = _class_token(model, params, images)
  for array, want in fixture.under(f'{name}/out').items():
    if array not in got:
      report.fail(f'{name}/out/{array}', 'our model has no such output')
      continue
    report.compare(f'{name}/out/{array}', got[array], want,
                   _tolerance(array, config.temperature))
  if own not in fixture and 'query_features' in got:
    report.compare(f'{name}: query_features', got['query_features'],
                   fixture['query_features'], tol.FEATURES,
                   remark='as the model reads them')


def _model(fixture: Fixture, config: Any, images: np.ndarray
           ) -> classifier.PromptedClassifier:
  return bridge.model(fixture.meta, config, image_size=images.shape[1],
                      num_classes=bridge.num_classes(fixture))[0]


def _selection(fixture: Fixture, name: str, case: Mapping[str, Any]):
  """(config, task index): where a selection is imposed, by task."""
  task_index, imposed = case.get('task_id'), f'{name}/prompt_mask'
  if imposed not in fixture:
    if task_index is not None:
      return bridge.expand(fixture.meta, case), task_index
    return bridge.expand(fixture.meta, case, use_prompt_mask=False), -1
  mask = fixture[imposed]
  if task_index is None:
    task_index = int(mask[0, 0]) // mask.shape[1]
  first = task_index * mask.shape[1]
  if not (mask == first + np.arange(mask.shape[1])).all():
    raise Unsupported(f'{imposed} is not what task {task_index} imposes')
  return bridge.expand(fixture.meta, case, use_prompt_mask=True), task_index


def _forward(model: classifier.PromptedClassifier,
             params: Mapping[str, np.ndarray], images: np.ndarray,
             task_index: int, train: bool) -> dict[str, Any]:
  """Outputs of our model under the recorded names."""
  query = steps.make_query(model)(params, images)
  out = model.apply(
      state_lib.variables(params), images, query, np.int32(task_index),
      train=train, rngs={'dropout': jax.random.key(0)})
  got = {'logits': out.logits, 'pre_logits': out.pre_logits,
         'query_features': query.cls, 'prompt_idx': out.selection.indices,
         'sim': out.selection.similarity}
  if 'pull' in out.selection.losses:
    got['reduce_sim'] = -out.selection.losses['pull']
  return {name: value for name, value in got.items() if value is not None}


def _class_token(model: classifier.PromptedClassifier, params: Any,
                 images: np.ndarray) -> jax.Array:
  """[B, D] of the plain backbone."""
  return model.apply(
      state_lib.variables(params), images, method='class_token')


def _tolerance(array: str, temperature: float) -> tol.Tolerance:
  if array == 'prompt_idx':
    return tol.EXACT
  if array in ('sim', 'reduce_sim'):
    return tol.SIMILARITY
  if array == 'logits' and temperature != 1:
    return tol.TEMPERATURE
  return tol.FEATURES
