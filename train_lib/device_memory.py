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
"""A device without enough memory is told in one line, with what to change."""

from collections.abc import Iterator
import contextlib
from typing import Any

import jax

_EXHAUSTED = 'RESOURCE_EXHAUSTED'  # XLA's status, when compiling and running


@contextlib.contextmanager
def told(config: Any) -> Iterator[None]:
  """Context of all work on devices.

  Raises:
    MemoryError: names the settings that decide how much is needed.
  """
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    _, exhausted, told_by_xla = str(error).partition(_EXHAUSTED)
    if not exhausted:
      raise
    first = told_by_xla.strip(' :').partition('\n')[0]
    raise MemoryError(
        f'a device has not enough memory: {first}; {_advice(config)}'
        ) from error


def _advice(config: Any) -> str:
  """The changes that this config has left."""
  ways = [f'lower per_device_batch_size={config.per_device_batch_size} and '
          'use more devices']
  if config.grad_clip_scope == 'all':
    ways.append('set grad_clip_scope=trainable')
  if config.dtype == 'float32':
    ways.append('set dtype=bfloat16')
  return ', or '.join(ways)
