# SPDX-License-Identifier: Apache-2.0
"""Data parallelism: the only file that says pmap, replicate or prefetch.

  step = parallel.pmap(step_fn, in_axes=(0, 0, 0, None))
  state = parallel.replicate(state)
  for batch in parallel.prefetch(batches):
    state, metrics = step(state, frozen, batch, task)
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
import functools
from typing import Any, TypeVar

from flax import jax_utils
import jax
import numpy as np

AXIS = 'batch'
PyTree = Any  # arrays in containers, however nested
Axes = int | None | Sequence[int | None]
Devices = Sequence[jax.Device] | None
T = TypeVar('T')  # a tree of arrays


def pmap(fn: Callable[..., T], *, in_axes: Axes = 0,
         donate_argnums: int | tuple[int, ...] = (), devices: Devices = None
         ) -> Callable[..., T]:
  """`jax.pmap` over `AXIS` that refuses to compile twice.

  Whatever changes with the task is an argument with a fixed shape, so one
  compilation serves a whole run; a second trace is a programming error.
  (`chex.assert_max_traces` counts per call stack, which two runs in one
  process share, so it cannot be used here.)

  Raises:
    RuntimeError: the returned function is traced a second time.
  """
  traces = 0

  @functools.wraps(fn)
  def traced_once(*args):
    nonlocal traces
    traces += 1
    # Whoever looks for a NaN runs the step again, operation by operation.
    if traces > 1 and not jax.config.jax_debug_nans:
      raise RuntimeError(f'{fn.__name__} was traced twice: some argument '
                         'changed its shape, type or structure')
    return fn(*args)

  return jax.pmap(traced_once, axis_name=AXIS, in_axes=in_axes,
                  donate_argnums=donate_argnums, devices=devices)


def local_count(devices: Devices = None) -> int:
  """Number of devices that this host drives."""
  return len(devices) if devices else jax.local_device_count()


def replicate(tree: T, devices: Devices = None) -> T:
  """Copies every leaf to every local device: [...] -> [n, ...].

  Goes through pmap, so the result has the layout that pmapped steps return
  and the first step does not compile twice.
  """
  copy = _copy_program(tuple(devices) if devices else None)
  return copy(np.arange(local_count(devices)), tree)


@functools.cache
def _copy_program(devices: Devices) -> Callable[[np.ndarray, T], T]:
  """One program object per set of devices, so each shape compiles once."""
  return jax.pmap(lambda _, t: t, axis_name=AXIS, in_axes=(0, None),
                  devices=devices)


def unreplicate(tree: T) -> T:
  """First local device's copy of every leaf, as numpy arrays."""
  return jax.tree.map(
      lambda x: np.asarray(x.addressable_shards[0].data)[0], tree)


def local(tree: T) -> T:
  """Copies [n, ...] of every leaf on local devices, as numpy arrays."""
  def rows(x):
    shards = sorted(x.addressable_shards, key=lambda s: s.index[0].start or 0)
    return np.concatenate([np.asarray(s.data) for s in shards])

  return jax.tree.map(rows, tree)


def shard(batch: T, devices: Devices = None) -> T:
  """Host batch [n * B, ...] -> [n, B, ...]."""
  n = local_count(devices)
  return jax.tree.map(lambda x: x.reshape(n, -1, *x.shape[1:]), batch)


def host_share(batch: T) -> T:
  """Rows [R / P, ...] that are for this host, of those [R, ...] of all."""
  p, count = jax.process_index(), jax.process_count()
  return jax.tree.map(
      lambda x: x[len(x) // count * p:len(x) // count * (p + 1)], batch)


def prefetch(batches: Iterable[PyTree], devices: Devices = None
             ) -> Iterator[PyTree]:
  """Shards host batches and keeps two of them ready on the devices."""
  sharded = (shard(batch, devices) for batch in batches)
  return jax_utils.prefetch_to_device(sharded, 2, devices)
