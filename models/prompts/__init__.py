# SPDX-License-Identifier: Apache-2.0
"""Methods, found by the name of their file."""

import importlib
import pkgutil
import types
from typing import Any

from ml_collections import ConfigDict

from promptcl.models.networks import vit
from promptcl.models.parts.base import Method
from promptcl.models.parts.base import StreamInfo


def available() -> list[str]:
  """Names that `config.method` may have."""
  return sorted(module.name for module in pkgutil.iter_modules(__path__))


def module(name: str) -> types.ModuleType:
  """The file of a method.

  Raises:
    ValueError: there is none of that name.
  """
  if name not in available():
    raise ValueError(f'method {name!r} is unknown, have {available()}')
  return importlib.import_module(f'{__name__}.{name}')


def build(config: ConfigDict, backbone: vit.VisionTransformer,
          stream: StreamInfo) -> Method:
  """Builds `config.method`.

  Raises:
    ValueError: no method of that name, or not with these settings.
  """
  return module(config.method).build(config, backbone, stream)


def check(config) -> None:
  """The rules of `config.method` for its own options.

  Raises:
    ValueError: no method of that name, or options that do not go together.
  """
  if section := getattr(module(config.method), 'OPTIONS', None):
    section.check(config)


def small(name: str) -> dict[str, Any]:
  """Keys under which a method runs on a network of width 16 and depth 3.

  `SMALL` in its file names those that have another value than in a small run of
  L2P without prompts in the read-out.
  """
  return {'method': name, 'vit_classifier': 'token',
          **getattr(module(name), 'SMALL', {})}


def small_options() -> dict[str, Any]:
  """The own options of all methods, each as small as `SMALL` has it."""
  found = {}
  for name in available():
    section = getattr(module(name), 'OPTIONS', None)
    if section is not None and section.name:
      found |= {key: value for key, value in small(name).items()
                if key.startswith(f'{section.name}.')}
  return found
