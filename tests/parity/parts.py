# SPDX-License-Identifier: Apache-2.0
"""Parts of models that are traced and compiled once for all that are alike.

Most of a run here is tracing and compiling; a file's models differ in how they
put together the same few blocks, norms and so on.
"""

from collections.abc import Callable, Iterator
import contextlib
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from promptcl.models.heads import heads
from promptcl.models.networks import layers
from promptcl.models.parts import prompt_pool

_PARTS = (layers.Block, layers.PositionEmbedding, nn.Conv, nn.LayerNorm,
          heads.LinearHead, prompt_pool.PromptPool)
_METHODS = ('__call__', 'select')
_ARRAYS = (jax.Array, np.ndarray, np.generic)


@contextlib.contextmanager
def shared() -> Iterator[None]:
  """Context in which calls of parts are those of compiled functions.

  A function gets the part's parameters and arrays as arguments, so one serves
  all layers and models with such a part.
  """
  compiled: dict[str, Callable[..., Any]] = {}
  inside = False

  def interceptor(next_fun, args, kwargs, context):
    nonlocal inside
    module, method = context.module, context.method_name
    if inside or not isinstance(module, _PARTS) or (
        method not in _METHODS) or not _pure(module, kwargs):
      return next_fun(*args, **kwargs)
    leaves, structure = jax.tree.flatten((args, kwargs))
    arrays = [leaf for leaf in leaves if isinstance(leaf, _ARRAYS)]
    others = [None if isinstance(leaf, _ARRAYS) else leaf for leaf in leaves]
    plain = module.clone(parent=None, name=None)
    # Modules need not be hashable; what they print is all that they are.
    known = compiled.setdefault(
        f'{plain} {method} {structure} {others}',
        jax.jit(_call(plain, method, structure, others)))
    inside = True
    try:
      return known(module.variables, *arrays)
    finally:
      inside = False

  with nn.intercept_methods(interceptor):
    yield


def _call(module: nn.Module, method: str, structure: Any, others: list[Any]
          ) -> Callable[..., Any]:
  """A module's method as a function of its parameters and arrays alone."""
  def call(variables, *arrays):
    left = iter(arrays)
    args, kwargs = jax.tree.unflatten(structure, [
        next(left) if other is None else other for other in others])
    return module.apply(variables, *args, **kwargs, method=method)

  return call


def _pure(module: nn.Module, kwargs: Any) -> bool:
  """Whether nothing but its output leaves a part, and no randomness enters."""
  dropout = getattr(module, 'dropout_rate', 0.0) and kwargs.get('train')
  return not (module.scope is None or module.is_initializing() or dropout
              or module.scope.is_mutable_collection('intermediates'))
