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
"""Methods, found by the name of their file."""

import importlib
import pkgutil

from models import vit
from models.prompts.base import Method

_VOCABULARY = ('base', 'class_statistics', 'generated_method', 'generation',
               'it_losses', 'it_phases', 'it_rows', 'layer_attention',
               'matching', 'method', 'phases', 'prompt_pool', 'slots', 'spaces')


def available() -> list[str]:
  """Names that `config.method` may have."""
  return sorted(m.name for m in pkgutil.iter_modules(__path__)
                if m.name not in _VOCABULARY)


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
