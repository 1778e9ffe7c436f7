# SPDX-License-Identifier: Apache-2.0
"""The plain ViT of timm, and what timm and the ports make of a Google file."""

from typing import Any

import jax
import numpy as np

from promptcl.models.heads import heads
from promptcl.models.networks import layers
from promptcl.models.weights import pretrained
from promptcl.train_lib.core import state as state_lib
from tests.parity import tolerances as tol
from tests.parity.fixture import Fixture
from tests.parity.ports import torch_bridge as bridge
from tests.parity.report import Report

_PORT_PROMPTS = 6  # 2 prompts of length 3
_NO_BICUBIC = 'timm resizes bicubically, ours linearly as the original does'


def run(fixture: Fixture, report: Report) -> None:
  """Activations on both kinds of images, then loading."""
  common = bridge.leaves(fixture)
  small = common | bridge.leaves(fixture, 'small/params')
  for images, arrays, name in (
      ('images', common, 'images'), ('images_signed', common, 'images_signed'),
      ('images', small, 'small')):
    got = _activations(fixture, arrays, fixture[images])
    for array, want in fixture.under(name).items():
      if not array.startswith('params/'):
        report.compare(f'{name}/{array}', got[array], want, _tolerance(array))
  _loading(fixture, report)


def _tolerance(array: str) -> tol.Tolerance:
  if array == 'logits':
    return tol.PORT_LOGITS
  return tol.TOKENS if 'block' in array or 'embed' in array else tol.FEATURES


def _activations(fixture: Fixture, arrays: Any, images: np.ndarray
                 ) -> dict[str, jax.Array]:
  """Outputs of our backbone and head under the recorded names."""
  model, images = bridge.backbone(fixture.meta), bridge.pictures(images)
  params = bridge.variables(arrays, fixture.meta)['params']
  backbone = {'params': params['backbone']}
  features, blocks = model.apply(
      backbone, images,
      capture_intermediates=lambda module, _: isinstance(module, layers.Block))
  pre_logits = features.tokens[:, features.layout.class_token]
  head = heads.LinearHead(fixture.meta['config']['classes'])
  got = {'patch_embed': model.apply(backbone, images, method='embed'),
         'tokens': features.tokens, 'pre_logits': pre_logits}
  if 'head' in params:
    got['logits'] = head.apply({'params': params['head']}, pre_logits)
  blocks = blocks['intermediates']['Transformer']
  return got | {f'tokens_after_block{name.split("_")[1]}': x['__call__'][0]
                for name, x in blocks.items()}


def _loading(fixture: Fixture, report: Report) -> None:
  """A Google file in our loader, against what timm and the port made of it."""
  google = dict(fixture.under('google'))
  theirs = bridge.leaves(fixture, 'loaded')
  tokens = theirs.pop('tokens_of_images')
  got = _activations(fixture, theirs, fixture['images'])
  report.compare('loaded/tokens_of_images', got['tokens'], tokens,
                 tol.FEATURES)
  want = state_lib.flatten(
      bridge.variables(theirs, fixture.meta)['params']['backbone'])
  ours = _merged(fixture, google, 0)
  for leaves in want, ours:
    del leaves[pretrained.POSITIONS]
  report.compare_tree('loaded/*', ours, want)
  grid = fixture['port_grid/pos_embedding']
  loaded = _merged(fixture, google | {pretrained.POSITIONS: grid},
                   _PORT_PROMPTS)
  table = loaded[pretrained.POSITIONS]
  table = np.concatenate([table[:, :1], loaded[pretrained.PROMPT_POSITIONS],
                          table[:, 1:]], axis=1)
  report.compare('loaded_by_port/pos_embed', table,
                 fixture['loaded_by_port/pos_embed'])
  for name in fixture.names:
    if name.startswith('resize/') or name == 'loaded/pos_embed':
      report.note(name, _NO_BICUBIC)


def _merged(fixture: Fixture, arrays: dict[str, np.ndarray],
            num_positions: int) -> dict[str, np.ndarray]:
  """Flat backbone leaves that our loader makes of a file's arrays."""
  model = bridge.backbone(fixture.meta).clone(num_positions=num_positions)
  side = model.image_size
  like = jax.eval_shape(
      model.init, jax.random.key(0),
      jax.ShapeDtypeStruct((1, side, side, 3), np.float32))['params']
  return state_lib.flatten(
      pretrained.merge(arrays, like, source=fixture.path.name))
