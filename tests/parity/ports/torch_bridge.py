# SPDX-License-Identifier: Apache-2.0
"""Configs, names and layouts of the PyTorch ports -> ours."""

from collections.abc import Mapping
from typing import Any

import ml_collections
import numpy as np

from promptcl.configs import base as defaults
from promptcl.models import classifier
from promptcl.models.networks import layers
from promptcl.models.networks import vit
from promptcl.models.parts import base
from promptcl.models.weights import pretrained
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.startup import startup
from tests.parity.fixture import Fixture

_POOL = {'prompt.prompt': 'prompt', 'e_prompt.prompt': 'prompt',
         'prompt.prompt_key': 'key', 'e_prompt.prompt_key': 'key'}
# A port without query features takes the maximum over embedded tokens.
_NO_QUERY = {'cls': 'max'}
# Norm of averaged tokens, which our read-out has not.
_UNUSED = ('fc_norm.',)


def pictures(array: np.ndarray) -> np.ndarray:
  """[B, C, h, w] -> [B, h, w, C]."""
  return array.transpose(0, 2, 3, 1)


def products(rows: np.ndarray) -> np.ndarray:
  """[n, k] -> [n, n]: the same for every basis of the columns' space."""
  return rows @ rows.T


def leaves(fixture: Fixture, prefix: str = 'params') -> dict[str, np.ndarray]:
  """Arrays under torch names."""
  return dict(fixture.under(prefix))


def embedding_key(case: Mapping[str, Any]) -> str:
  """What the query of a case is made of."""
  key = case['embedding_key']
  return key if case['give_query'] else _NO_QUERY.get(key, key)


def expand(case: Mapping[str, Any], **changes: Any
           ) -> ml_collections.FrozenConfigDict:
  """Complete config of a case of `torch_l2p_forward` or its DualPrompt twin.

  Args:
    case: entry of `meta.cases`.
    **changes: keys of `prompt_pool_param` that replace what follows from it.
  """
  config = defaults.get_config()
  config.vit_classifier = case['head_type']
  config.prompt_position = 'after_cls'
  config.prompt_pool_param.update(
      pool_size=case['pool'], length=case['length'], top_k=case['top_k'],
      batchwise_prompt=case['batchwise'], use_prompt_mask=case['mask'],
      embedding_key=embedding_key(case))
  if 'e_layers' in case:
    config.update(
        use_g_prompt=True, g_prompt_length=case['g_length'],
        g_prompt_layer_idx=tuple(case['g_layers']),
        e_prompt_layer_idx=tuple(case['e_layers']),
        use_prefix_tune_for_e_prompt=True)
  config.prompt_pool_param.update(changes)
  return startup.expand(config)


def expand_pgp(meta: Mapping[str, Any], pairing: str
               ) -> ml_collections.FrozenConfigDict:
  """Complete config of a file about gradient projection."""
  sizes, config = meta['config'], defaults.get_config()
  config.update(
      learning_rate=sizes['lr'], grad_clip_max_norm=sizes['clip'],
      grad_clip_scope='trainable', pull_constraint_coeff=sizes['coeff'],
      vit_classifier=sizes.get('head_type', 'token'),
      prompt_position='after_cls')
  config.continual.num_tasks = meta['tasks']
  config.prompt_pool_param.update(
      pool_size=sizes['pool'], length=sizes['length'],
      top_k=sizes.get('top_k', 1), prefix_pairing=pairing)
  config.pgp.enabled = True
  if 'layers' in meta:
    config.update(
        use_g_prompt=True, g_prompt_length=sizes['g_length'],
        g_prompt_layer_idx=tuple(meta['layers']['g']),
        e_prompt_layer_idx=tuple(meta['layers']['e']),
        use_prefix_tune_for_e_prompt=True)
    config.prompt_pool_param.update(
        use_prompt_mask=True, shared_prompt_pool=True)
    config.pgp.update(prefix_components=sizes['comps'],
                      prefix_epsilon=sizes['eps'])
  else:
    names = [f'{kind}_{setting}' for setting in ('components', 'epsilon')
             for kind in ('token', 'key')]
    config.pgp.update(dict(zip(names, sizes['comps'] + sizes['eps'],
                               strict=True)))
  return startup.expand(config)


def backbone(meta: Mapping[str, Any]) -> vit.VisionTransformer:
  """The plain ViT of a file."""
  sizes = meta['config']
  return vit.VisionTransformer(
      patch_size=sizes['patch_size'], width=sizes['embed_dim'],
      depth=sizes['depth'], num_heads=sizes['num_heads'],
      mlp_dim=4 * sizes['embed_dim'], image_size=sizes['img_size'],
      traits=layers.Traits(gelu='exact'))


def model(meta: Mapping[str, Any], config: Any
          ) -> classifier.PromptedClassifier:
  """The classifier of a case."""
  stream = base.StreamInfo(meta['config']['classes'],
                           config.continual.num_tasks)
  return classifier.build(config, stream, backbone(meta))[0]


def variables(arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]
              ) -> dict[str, Any]:
  """Torch names and layouts -> what our classifier's `apply` takes."""
  flat, plain = _own(arrays)
  ours = pretrained.canonical(plain, num_heads=meta['config']['num_heads'])
  flat |= {f'backbone/{k}': v for k, v in _split(ours, meta).items()}
  return state_lib.variables(flat)


def trainable(fixture: Fixture, prefix: str) -> dict[str, np.ndarray]:
  """Recorded leaves of prompt and head under our paths."""
  return _own(leaves(fixture, prefix))[0]


def _own(arrays: Mapping[str, np.ndarray]
         ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """Leaves of prompt and head under our paths, and all others as they are."""
  flat, plain = {}, {}
  for name, array in arrays.items():
    if name in _POOL:
      flat[f'prompt/prompt_pool/{_POOL[name]}'] = _pool(array, name)
    elif name == 'g_prompt':
      flat['prompt/prefix'] = array.reshape(*array.shape[:3], -1)
    elif name.startswith('head.'):
      leaf = {'weight': 'kernel', 'bias': 'bias'}[name.removeprefix('head.')]
      flat[f'head/{leaf}'] = array.T
    elif not name.startswith(_UNUSED):
      plain[name] = array
  return flat, plain


def _pool(array: np.ndarray, name: str) -> np.ndarray:
  if name == 'prompt.prompt':
    return array[None]  # our axis of layers
  if name == 'e_prompt.prompt':
    return array.reshape(*array.shape[:4], -1)  # heads merged
  return array


def _split(arrays: dict[str, np.ndarray], meta: Mapping[str, Any]
           ) -> dict[str, np.ndarray]:
  """Cuts the prompts' rows out of a lengthened position table."""
  table = arrays[pretrained.POSITIONS]
  own = table.shape[1] - 1 - meta['config']['tokens']
  if own:
    arrays[pretrained.PROMPT_POSITIONS] = table[:, 1:1 + own]
    arrays[pretrained.POSITIONS] = np.concatenate(
        [table[:, :1], table[:, 1 + own:]], axis=1)
  return arrays
