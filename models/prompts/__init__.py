# SPDX-License-Identifier: Apache-2.0
"""Methods, found by the name of their file."""

import importlib
import pkgutil

from promptcl.models.networks import vit
from promptcl.models.parts.base import Method


def available() -> list[str]:
  """Names that `config.method` may have."""
  return sorted(module.name for module in pkgutil.iter_modules(__path__))


def build(config, backbone: vit.VisionTransformer) -> Method:
  """Builds `config.method`.

  Raises:
    ValueError: no method of that name.
  """
  if config.method not in available():
    raise ValueError(
        f'method {config.method!r} is unknown, have {available()}')
  module = importlib.import_module(f'{__name__}.{config.method}')
  return module.build(config, backbone)
