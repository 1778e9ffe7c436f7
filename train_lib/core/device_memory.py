# SPDX-License-Identifier: Apache-2.0
"""A device without enough memory is one line, with what to change."""

from collections.abc import Iterator
import contextlib

import jax
from ml_collections import ConfigDict

_EXHAUSTED = 'RESOURCE_EXHAUSTED'  # XLA's status, when compiling and running


@contextlib.contextmanager
def explained(config: ConfigDict) -> Iterator[None]:
  """Context of all work on devices.

  Raises:
    MemoryError: names the settings that decide how much is needed.
  """
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    _, exhausted, reason = str(error).partition(_EXHAUSTED)
    if not exhausted:
      raise
    first = reason.strip(' :').partition('\n')[0]
    raise MemoryError(
        f'a device has not enough memory: {first}; {_advice(config)}'
        ) from error


def _advice(config: ConfigDict) -> str:
  """The changes that this config has left."""
  ways = [f'lower per_device_batch_size={config.per_device_batch_size} and '
          'use more devices']
  if config.grad_clip_scope == 'all':
    ways.append('set grad_clip_scope=trainable')
  if config.dtype == 'float32':
    ways.append('set dtype=bfloat16')
  return ', or '.join(ways)
