# SPDX-License-Identifier: Apache-2.0
"""Methods, found by the name of their file."""

import importlib
import pkgutil
import types

from promptcl.models.networks import vit
from promptcl.models.parts.base import Method


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


def build(config, backbone: vit.VisionTransformer) -> Method:
  """Builds `config.method`.

  Raises:
    ValueError: no method of that name, or not with these settings.
  """
  return module(config.method).build(config, backbone)


def check(config) -> None:
  """The rules of `config.method` for its own options.

  Raises:
    ValueError: no method of that name, or options that do not go together.
  """
  if section := getattr(module(config.method), 'OPTIONS', None):
    section.check(config)
