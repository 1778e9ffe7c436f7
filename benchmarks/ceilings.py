# SPDX-License-Identifier: Apache-2.0
"""What a device can do at most: matrix products, and reading with writing.

  measure(dict(ceiling='product', dtype='bfloat16', precision=None, size=8192,
               seconds=1.0))

One device is measured; the others are taken to be like it.
"""

import math
import time
from typing import Any

import jax
import jax.numpy as jnp

Case = dict[str, Any]  # what a row was asked for, and its figures
# What is compiled, its arguments, FLOPs or bytes.
Work = tuple[jax.stages.Wrapped, tuple[jax.Array, ...], int]
_CHAIN = 8  # products in one program, so that starting it costs little


def measure(case: Case) -> Case:
  """Measures one ceiling.

  Args:
    case: `ceiling` is `product`, of two square matrices of `size` rows of
      `dtype`, with sums in float32, under a `precision` of JAX or (None) its
      default, which for float32 may be less than float32; or `copy`, of `size`
      float32.  `seconds` are to be filled, with three repetitions at least.

  Returns:
    The case with `per_second`, FLOPs or bytes (read and written), and
    `compile_seconds`.
  """
  make = {'product': _products, 'copy': _copy}[case['ceiling']]
  with jax.default_matmul_precision(case.get('precision')):
    step, args, amount = make(case)
    started = time.perf_counter()
    compiled = step.lower(*args).compile()
    compile_seconds = time.perf_counter() - started
  seconds = _seconds(compiled, args, case['seconds'])
  return dict(case, per_second=amount / seconds,
              compile_seconds=compile_seconds)


def _products(case: Case) -> Work:
  """-> (compilable, arguments, FLOPs); each product takes the one before."""
  size, dtype = case['size'], case['dtype']
  left, right = (jax.random.normal(key, (size, size), dtype)
                 for key in jax.random.split(jax.random.key(0)))
  left = left * jnp.asarray(size**-0.5, dtype)  # so that nothing grows

  def chain(right, left):
    for _ in range(_CHAIN):
      right = jnp.dot(left, right,
                      preferred_element_type=jnp.float32).astype(dtype)
    return right

  return jax.jit(chain), (right, left), 2 * size**3 * _CHAIN


def _copy(case: Case) -> Work:
  """-> (compilable, arguments, bytes); a mere copy might be left out."""
  array = jnp.zeros(case['size'], jnp.float32)
  return (jax.jit(lambda x: x + 1, donate_argnums=0), (array,),
          2 * array.nbytes)


def _seconds(compiled: jax.stages.Compiled, args: tuple[jax.Array, ...],
             seconds: float) -> float:
  """Of one call, mean over as many as fill `seconds`, after one to warm up.

  Each call takes the result of the one before as its first argument, so that
  results do not heap up.
  """
  first, *others = args

  def run(count):
    nonlocal first
    started = time.perf_counter()
    for _ in range(count):
      first = compiled(first, *others)
    jax.block_until_ready(first)
    return (time.perf_counter() - started) / count

  run(1)
  return run(max(3, math.ceil(seconds / run(1))))
