# SPDX-License-Identifier: Apache-2.0
"""The original's configs and parameter trees -> ours."""

from collections.abc import Mapping
import copy
from typing import Any

import ml_collections
import numpy as np

from promptcl.models import classifier
from promptcl.models.networks import vit
from promptcl.models.parts import base
from promptcl.train_lib import program as program_lib
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.startup import startup
from promptcl.train_lib.steps import optimizer as optimizer_lib
from tests.parity.fixture import Fixture
from tests.parity.fixture import Unsupported

_BACKBONE = ('embedding', 'cls', 'Transformer')


def expand(meta: Mapping[str, Any], case: Mapping[str, Any] | None = None,
           **pool_options: Any) -> ml_collections.FrozenConfigDict:
  """Complete config of a file or of one of its cases.

  Args:
    meta: of the file; `meta.config` is in the original's form.
    case: entry of `meta.cases`; its `config` and `prompt_pool_param` replace
      keys.
    **pool_options: replace keys of `prompt_pool_param` last.
  """
  case = case or {}
  config = copy.deepcopy(meta['config'])
  _replace(config, case.get('config', {}))
  _replace(config, {'prompt_pool_param': case.get('prompt_pool_param', {})})
  _replace(config, {'prompt_pool_param': pool_options})
  return startup.expand(ml_collections.ConfigDict(config))


def _replace(config: dict[str, Any], changes: Mapping[str, Any]) -> None:
  for key, value in changes.items():
    if isinstance(value, dict) and isinstance(config.get(key), dict):
      _replace(config[key], value)
    else:
      config[key] = value


def our_path(path: str) -> str:
  """`prompt_pool/key` -> `prompt/prompt_pool/key`, and so on."""
  top = path.split('/')[0]
  if top == 'head':
    return path
  return ('backbone/' if top in _BACKBONE else 'prompt/') + path


def params(arrays: Mapping[str, np.ndarray], config: Any
           ) -> dict[str, np.ndarray]:
  """Leaves of the original, or gradients or moments of them, as ours.

  Heads of prefixes are merged; of `prefix`, which the original allocates for
  every layer, the prompted layers' rows are kept.
  """
  return {our_path(path): _leaf(path, array, config)
          for path, array in arrays.items()}


def _leaf(path: str, array: np.ndarray, config: Any) -> np.ndarray:
  if path == 'prompt_pool/prompt' and array.ndim == 6:
    return array.reshape(*array.shape[:4], -1)
  if path == 'prefix':
    array = array[np.array(sorted(config.g_prompt_layer_idx), int)]
    return array.reshape(*array.shape[:3], -1) if array.ndim == 5 else array
  return array


def program(meta: Mapping[str, Any], config: Any, *, num_classes: int,
            image_size: int | None = None) -> program_lib.Program:
  """The program of `config` on the backbone of `meta.vit`, without weights.

  Raises:
    Unsupported: the backbone has parts that ours lacks.
  """
  built, method = model(meta, config, num_classes=num_classes,
                        image_size=image_size)
  optimizer = optimizer_lib.create(config, method.transform)
  draw = state_lib.random_params(
      built, image_size=built.backbone.image_size)
  return program_lib.Program(config, built, method, optimizer, None, draw)


def model(meta: Mapping[str, Any], config: Any, *, num_classes: int,
          image_size: int | None = None
          ) -> tuple[classifier.PromptedClassifier, base.Method]:
  """Model and method of `config` on the backbone of `meta.vit`.

  Raises:
    Unsupported: the backbone has parts that ours lacks.
  """
  sizes = meta['vit']
  for name in 'attention_dropout_rate', 'representation_size':
    if sizes.get(name):
      raise Unsupported(f'meta.vit.{name} is {sizes[name]}')
  backbone = vit.VisionTransformer(
      patch_size=sizes['patch_size'], width=sizes['hidden_size'],
      depth=sizes['num_layers'], num_heads=sizes['num_heads'],
      mlp_dim=sizes['mlp_dim'],
      image_size=image_size or sizes['image_size'],
      dropout_rate=sizes.get('dropout_rate', 0.0))
  return classifier.build(config, base.StreamInfo(
      num_classes, config.continual.num_tasks), backbone)


def select(prog: program_lib.Program, leaves: Mapping[str, np.ndarray]
           ) -> dict[str, np.ndarray]:
  """The leaves of the original that this model has, under our names.

  Raises:
    Unsupported: lists leaves that are missing or have another shape.
  """
  leaves = params({path: array for path, array in leaves.items()
                   if our_path(path) in prog.shapes}, prog.config)
  problems = [f'{path} is missing' for path in prog.shapes
              if path not in leaves]
  problems += [f'{path} has shape {list(array.shape)}, the model needs '
               f'{list(prog.shapes[path].shape)}'
               for path, array in leaves.items()
               if array.shape != prog.shapes[path].shape]
  if problems:
    raise Unsupported('parameters: ' + '; '.join(problems))
  return leaves


def program_of(fixture: Fixture) -> program_lib.Program:
  """The program of a file without cases."""
  return program(fixture.meta, expand(fixture.meta),
                 num_classes=num_classes(fixture))


def num_classes(fixture: Fixture) -> int:
  """Width of the head."""
  if 'num_total_class' in fixture.meta:
    return fixture.meta['num_total_class']
  return fixture['params/head/bias'].shape[-1]


def class_mask(classes: Any, width: int) -> np.ndarray:
  """List of head columns -> bool [C]; None means all of them."""
  mask = np.zeros(width, bool)
  mask[slice(None) if classes is None else np.asarray(classes, int)] = True
  return mask
