# SPDX-License-Identifier: Apache-2.0
"""Which inputs the rows of a prompt meet, for what protects old inputs.

A prompt lists its `Space`s; `train_lib/around/projection.py` keeps a basis for
each of them, whatever the prompt is called.
"""

from collections.abc import Iterable, Mapping
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array
KINDS = ('token', 'sequence', 'key', 'prefix')
AS_TOKENS = ('token', 'sequence')  # whose rows are tokens beside the inputs


@dataclasses.dataclass(frozen=True)
class Space:
  """Inputs of width D and the parameters whose rows [..., D] meet them.

  Attributes:
    name: `tokens`, `keys`, `layer_2`.
    kind: what the inputs are.  `token`: patch embeddings, beside which the rows
      are tokens; `sequence`: class token and patches with their positions, as
      they stand before the first block, beside which the rows are tokens;
      `key`: query vectors, which the rows are compared with; `prefix`:
      attention queries of a block, whose keys the rows join.
    leaves: ((flat path, index of the leading axes), ...).
    layer: the prompted block; 0 for keys.
  """

  name: str
  kind: str
  leaves: tuple[tuple[str, tuple[int, ...]], ...]
  layer: int = 0

  def rows(self, params: Mapping[str, Any]) -> tuple[Any, ...]:
    """The rows [..., D] in flat parameters, gradients or updates."""
    return tuple(params[path][index] for path, index in self.leaves)

  def with_rows(self, params: Mapping[str, Array], rows: Iterable[Array]
                ) -> dict[str, Array]:
    """A copy with other rows."""
    params = dict(params)
    for (path, index), new in zip(self.leaves, rows, strict=True):
      params[path] = (
          jnp.asarray(params[path]).at[index].set(new) if index else new)
    return params


def merged(spaces: Iterable[Space]) -> tuple[Space, ...]:
  """Spaces of one name become one with all their leaves, in the last layer."""
  found: dict[str, Space] = {}
  for space in spaces:
    if space.name in found:
      first = found[space.name]
      space = dataclasses.replace(
          space, leaves=first.leaves + space.leaves,
          layer=max(first.layer, space.layer))
    found[space.name] = space
  return tuple(found.values())
