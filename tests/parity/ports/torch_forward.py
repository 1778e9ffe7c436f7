# SPDX-License-Identifier: Apache-2.0
"""Forward passes of the PyTorch ports: L2P, DualPrompt."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from promptcl.models import classifier
from promptcl.models.networks import layers
from promptcl.models.networks import similarity as similarity_lib
from promptcl.models.parts import base
from promptcl.models.parts import prompt_pool
from tests.parity import tolerances as tol
from tests.parity.fixture import Fixture
from tests.parity.ports import torch_bridge as bridge
from tests.parity.report import Report

Array = jax.Array
_TOLERANCE = {
    'prompt_idx': tol.EXACT, 'batched_prompt': tol.EXACT,
    'similarity': tol.PORT_SIMILARITY, 'reduce_sim': tol.PORT_SIMILARITY,
    'selected_key': tol.PORT_SIMILARITY, 'logits': tol.PORT_LOGITS,
    'query_features_again': tol.FEATURES, 'tokens_normed': tol.FEATURES,
}
_NO_POOLED_NORM = ('the port averages tokens before their norm, which our '
                   'read-out does not offer')


def run(fixture: Fixture, report: Report) -> None:
  """Every case of the file; with prefixes under both pairings of the port."""
  common = bridge.leaves(fixture)
  for number, case in enumerate(fixture.meta['cases']):
    name = f'case{number}'
    arrays = common | bridge.leaves(fixture, f'{name}/params')
    if 'e_layers' not in case:
      _case(fixture, report, name, case, arrays, bridge.expand(case))
      continue
    for pairing in 'port', 'correct':
      config = bridge.expand(case, prefix_pairing=pairing)
      _case(fixture, report, f'{name}/{pairing}', case, arrays, config)


def _case(fixture: Fixture, report: Report, name: str,
          case: Mapping[str, Any], arrays: Mapping[str, np.ndarray],
          config: Any) -> None:
  """Compares all that is recorded under `name`."""
  model = bridge.model(fixture.meta, config)
  variables = bridge.variables(arrays, fixture.meta)
  top = name.split('/')[0]
  images = bridge.pictures(fixture[f'{top}/images'])
  recorded = _recorded(fixture, name)
  query = _query(model, variables, images, case)
  features = query.cls
  if features is None:  # of the same images, though the model goes without
    features = model.apply(variables, images, method='class_token')
  got = {'query_features_again': features} | _forward(
      model, variables, images, query, case)
  if f'{name}/tokens_normed' in recorded:
    got |= _tokens(model, variables, images, got['carry'])
  report.compare(f'{name}: query features', features,
                 fixture[f'{top}/query_features'], tol.FEATURES,
                 remark='as the port is given them')
  for array in recorded:
    _compare(fixture, report, array, got, case)


def _recorded(fixture: Fixture, name: str) -> list[str]:
  """Outputs of a case: `case0/port` has those of `case0` beside its own."""
  inputs = set(fixture.meta['inputs'])
  prefixes = {f'{name}/', f'{name.split("/")[0]}/'}
  return [array for array in fixture.names if array not in inputs
          and array[:array.rindex('/') + 1] in prefixes]


def _compare(fixture: Fixture, report: Report, name: str,
             got: Mapping[str, Array], case: Mapping[str, Any]) -> None:
  array = name.split('/')[-1]
  ours, through = got[array], lambda want: want
  if case['head_type'] == 'gap' and array in ('logits', 'pre_logits'):
    report.note(name, _NO_POOLED_NORM)
    return
  if not case['order_defined'] and array in ('prompt_idx', 'selected_key'):
    order = np.argsort(fixture[f'{name.rsplit("/", 1)[0]}/prompt_idx'], axis=1)
    ours = _in_order(ours, np.argsort(got['prompt_idx'], axis=1))
    through = lambda want: _in_order(want, order)
  report.compare(name, ours, fixture[name],
                 _tolerance(array, case['head_type']), through=through)


def _in_order(array: Array, order: np.ndarray) -> np.ndarray:
  """[B, K, ...] with axis 1 in the given order [B, K]."""
  return np.stack([np.asarray(row)[own]
                   for row, own in zip(array, order, strict=True)])


def _tolerance(array: str, head_type: str) -> tol.Tolerance:
  if array == 'pre_logits':
    return tol.FEATURES if head_type == 'token' else tol.TOKENS
  return _TOLERANCE.get(array, tol.TOKENS)


def _query(model: classifier.PromptedClassifier, variables: Any,
           images: np.ndarray, case: Mapping[str, Any]) -> base.Query:
  """What the port's model gets or falls back to."""
  if case['give_query']:
    return model.apply(variables, images, method='query')
  if 'e_layers' not in case:
    return base.Query()  # the model takes its patch embeddings itself
  # Class token and positions included, unlike in ours.
  embedded = model.apply(
      variables, images, method=lambda m, x: m.backbone(x)).block_inputs[0]
  return base.Query(patches=embedded)


def _forward(model: classifier.PromptedClassifier, variables: Any,
             images: np.ndarray, query: base.Query, case: Mapping[str, Any]
             ) -> dict[str, Array]:
  """Outputs of our model under the recorded names."""
  if query.patches is not None:
    vector = prompt_pool.embedding_query(query, bridge.embedding_key(case))
    model = model.clone(prompt=model.prompt.clone(pool_options={
        **model.prompt.pool_options, 'embedding_key': 'cls'}))
    query = base.Query(cls=vector)
  task, train = np.int32(case['task_id']), case['train']
  out = model.apply(variables, images, query, task, train=train)
  pool = variables['params']['prompt']['prompt_pool']
  keys = similarity_lib.l2_normalize(pool['key'])
  carry = out.selection.carry
  return {
      'logits': out.logits, 'pre_logits': out.pre_logits,
      'prompt_idx': np.asarray(out.selection.indices),
      'similarity': out.selection.similarity,
      'reduce_sim': -out.selection.losses['pull'],
      'selected_key': keys[out.selection.indices], 'carry': carry,
      'batched_prompt': carry.reshape(
          *carry.shape[:-1], model.backbone.num_heads, -1)}


def _tokens(model: classifier.PromptedClassifier, variables: Any,
            images: np.ndarray, carry: Array) -> dict[str, Array]:
  """All tokens after each block and after the final norm."""
  features, blocks = model.apply(
      variables, images, carry,
      method=lambda m, x, carry: m.backbone(
          x, prompt_at=m.prompt.at_layer, carry=carry),
      capture_intermediates=lambda module, _: isinstance(module, layers.Block))
  blocks = blocks['intermediates']['backbone']['Transformer']
  return {'tokens_normed': features.tokens} | {
      f'tokens_after_block{name.split("_")[1]}': block['__call__'][0]
      for name, block in blocks.items()}
