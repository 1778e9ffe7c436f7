# SPDX-License-Identifier: Apache-2.0
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
    'EvalSet': 'streams.task_stream',
    'held_out_config': 'held_out',
    'ReplayStream': 'replay',
    'Schedule': 'streams.order',
    'Task': 'streams.task_stream',
    'TaskStream': 'pipeline',
}

__all__ = tuple(_MODULES)


def __getattr__(name: str) -> Any:
  if name not in _MODULES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  module = importlib.import_module(f'{__name__}.{_MODULES[name]}')
  return getattr(module, name)
