# SPDX-License-Identifier: Apache-2.0
"""Starts of a run in one process, which share what they compile.

start = programs.Starts(config)
start(workdir)  # is killed
start(workdir)  # goes on, with the steps that the first start has compiled

Every start of a config traces and compiles the same functions.  Here the n-th
that is made of a kind is that of the first start, so that `parallel.pmap`
refuses a second trace of it over all starts, and not only over one.  The
parameters that a run begins with are drawn once as well.
"""

import collections
from collections.abc import Callable, Iterator
import contextlib
import functools
import pathlib
from typing import Any

import ml_collections
import numpy as np
import pytest

from promptcl.train_lib import train
from promptcl.train_lib.core import parallel
from promptcl.train_lib.core import state as state_lib

_PLAIN = (bool, int, float, str, bytes, type(None))


class Starts:
  """Starts runs of one config; what is compiled is shared.

  Attributes:
    config: of the runs.
  """

  def __init__(self, config: Any,
               prepare: Callable[[Any], tuple[Any, Any]] = train.prepare):
    self.config, self._prepare = config, prepare
    self._known: dict[Any, Callable[..., Any]] = {}
    self._params: dict[Any, Any] = {}

  def __call__(self, workdir: pathlib.Path) -> Any:
    """Starts the run of a folder, which is made; returns its results."""
    workdir.mkdir(exist_ok=True)
    with self.shared():
      return train.train_and_evaluate(
          *self._prepare(self.config), str(workdir))

  @contextlib.contextmanager
  def shared(self) -> Iterator[None]:
    """Context of one start: `parallel.pmap` gives what is known already."""
    made, pmap = collections.Counter(), parallel.pmap
    draw = state_lib.initial_params

    def known(fn, **options):
      key = fingerprint(fn), fingerprint(sorted(options.items()))
      made[key] += 1
      place = *key, made[key]
      if place not in self._known:
        self._known[place] = pmap(fn, **options)
      return self._known[place]

    def drawn(*args, **options):
      place = fingerprint(sorted(options.items()))
      if place not in self._params:
        self._params[place] = draw(*args, **options)
      return dict(self._params[place])

    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(parallel, 'pmap', known)
      patch.setattr(state_lib, 'initial_params', drawn)
      yield


def fingerprint(value: Any) -> Any:
  """What tells a function from all others that are made of one config.

  That is its name and what it closes over: functions likewise, arrays and plain
  values by value, configs by content, and objects, which the config makes, by
  type.
  """
  if isinstance(value, _PLAIN):
    return repr(value)
  if isinstance(value, ml_collections.ConfigDict):
    return value.to_json_best_effort()
  if isinstance(value, (tuple, list)):
    return tuple(map(fingerprint, value))
  if isinstance(value, functools.partial):
    return fingerprint(
        (value.func, value.args, sorted(value.keywords.items())))
  if hasattr(value, '__array__'):
    array = np.asarray(value)
    return array.dtype.str, array.shape, array.tobytes()
  name = getattr(value, '__qualname__', type(value).__qualname__)
  cells = getattr(value, '__closure__', None) or ()
  return name, *(fingerprint(cell.cell_contents) for cell in cells)
