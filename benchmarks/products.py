# SPDX-License-Identifier: Apache-2.0
"""Counts the matrix products of a step, on any platform.

  flops = products.count(jax.make_jaxpr(step)(*args).jaxpr)

XLA's own counts are of what it compiled, in which products may have become
calls of libraries that it does not count, and which the ways to a GPU and to a
TPU do not offer before compilation.  This one is of the step as it was traced.
"""

from collections.abc import Iterator, Mapping
import math

from jax.extend import core as jax_core


def count(jaxpr: jax_core.Jaxpr | jax_core.ClosedJaxpr) -> int:
  """FLOPs of all `dot_general` and convolutions; one multiply-add is two.

  Only the cheaper side of a condition counts: the dearer one of our steps is
  the comparison of selections, which is off when a step is measured.  The body
  of a loop of unknown length counts once.

  Args:
    jaxpr: open or closed; inside a pmap that of one device.
  """
  return sum(_count(equation) for equation in jaxpr.eqns)


def _count(equation: jax_core.JaxprEqn) -> int:
  """FLOPs of one equation."""
  name, params = equation.primitive.name, equation.params
  if name == 'dot_general':
    (contracted, _), _ = params['dimension_numbers']
    left = equation.invars[0].aval.shape
    return 2 * _size(equation) * math.prod(left[axis] for axis in contracted)
  if name == 'conv_general_dilated':
    kernel = equation.invars[1].aval.shape
    outputs = kernel[params['dimension_numbers'].rhs_spec[0]]
    return 2 * _size(equation) * math.prod(kernel) // outputs
  inner = [count(jaxpr) for jaxpr in _inner(params)]
  if name == 'cond':
    return min(inner)
  return sum(inner) * (params['length'] if name == 'scan' else 1)


def _size(equation: jax_core.JaxprEqn) -> int:
  """Elements of the result."""
  return math.prod(equation.outvars[0].aval.shape)


def _inner(params: Mapping[str, object]
           ) -> Iterator[jax_core.Jaxpr | jax_core.ClosedJaxpr]:
  """What an equation calls."""
  for value in params.values():
    for item in value if isinstance(value, (tuple, list)) else (value,):
      if hasattr(item, 'eqns'):
        yield item
