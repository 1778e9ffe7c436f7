# SPDX-License-Identifier: Apache-2.0
"""Matrix products of a step are counted as by hand, and much as XLA does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import products

A, B = np.ones((2, 3), np.float32), np.ones((3, 4), np.float32)
ONE = 2 * 2 * 3 * 4  # A @ B


def _count(fn, *args):
  return products.count(jax.make_jaxpr(fn)(*args).jaxpr)


def _loss(a, b):
  return jnp.sum((a @ b)**2)


def _loop(a, b):
  return jax.lax.scan(lambda sum, _: (sum + a @ b, None), jnp.zeros((2, 4)),
                      length=5)[0]


def _either(a, b):
  return jax.lax.cond(a[0, 0] > 0, lambda: a @ b + a @ b, lambda: a @ b)


@pytest.mark.parametrize('fn, expected', [
    (jnp.matmul, ONE),
    (jax.jit(jnp.matmul), ONE),
    (lambda a, b: jnp.exp(a) * 2, 0),
    (jax.grad(_loss), 2 * ONE),  # forward, and with respect to a
    (jax.grad(_loss, argnums=(0, 1)), 3 * ONE),
    (jax.grad(jax.checkpoint(_loss)), 3 * ONE),  # forward twice
    (_loop, 5 * ONE),
    (_either, ONE),  # the cheaper side
    (lambda a, b: jnp.einsum('xab,xbc->xac', a[None], b[None]), ONE)])
def test_products_by_hand(fn, expected):
  assert _count(fn, A, B) == expected


def test_a_convolution_by_hand():
  images, kernel = np.ones((2, 8, 8, 3)), np.ones((3, 3, 3, 5))
  def fn(images, kernel):
    return jax.lax.conv_general_dilated(
        images, kernel, (1, 1), 'VALID',
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'))

  # 6 x 6 places, each 3 x 3 x 3 inputs and 5 outputs.
  assert _count(fn, images, kernel) == 2 * 2 * 36 * 27 * 5


def test_a_device_of_a_pmap_counts_its_own():
  n = jax.local_device_count()
  step = jax.pmap(lambda a, b: jax.lax.psum(a @ b, 'x'), axis_name='x')
  assert _count(step, np.stack([A] * n), np.stack([B] * n)) == ONE


def test_xla_counts_much_the_same():
  a, b = np.ones((64, 128), np.float32), np.ones((128, 256), np.float32)
  fn = jax.grad(_loss, argnums=(0, 1))
  counted = jax.jit(fn).lower(a, b).compile().cost_analysis()['flops']
  assert _count(fn, a, b) == pytest.approx(counted, rel=0.02)
