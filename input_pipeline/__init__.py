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
"""Tasks, batches and images; `build(config, ...)` is the way in.

Importing this is cheap: each name's module is imported when it is first asked
for, so that settings can be checked, and steps measured, where the libraries
for data are absent.
"""

import importlib
from typing import Any

_MODULES = {
    'build': 'pipeline',
    'build_held_out': 'held_out',
    'check_replay': 'replay',
    'check_stream': 'checks',
    'EvalSet': 'task_stream',
    'held_out_config': 'held_out',
    'ReplayStream': 'replay',
    'Schedule': 'order',
    'Task': 'task_stream',
    'TaskStream': 'pipeline',
}

__all__ = tuple(_MODULES)


def __getattr__(name: str) -> Any:
  if name not in _MODULES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  module = importlib.import_module(f'{__name__}.{_MODULES[name]}')
  return getattr(module, name)
