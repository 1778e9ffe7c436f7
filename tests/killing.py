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
"""Runs that end in the middle, in this process.

killing.kill_at_call(monkeypatch, run_log.RunLog, 'train_step', 9, run)
assert killing.place(workdir).task == 1
"""

from collections.abc import Callable
from typing import Any

import pytest

from train_lib import workdir as workdir_lib
from train_lib.place import Place


class Killed(Exception):
  """The run was killed; no part of a run catches this."""


def act_at_call(patch: pytest.MonkeyPatch, owner: Any, name: str, number: int,
                action: Callable[[], Any]) -> list[tuple]:
  """Acts when a function is called for that time, before it runs.

  Returns:
    The positional arguments of the calls so far; it grows with each.
  """
  function, calls = getattr(owner, name), []

  def wrapped(*args, **options):
    calls.append(args)
    if len(calls) == number:
      action()
    return function(*args, **options)

  patch.setattr(owner, name, wrapped)
  return calls


def record_calls(patch: pytest.MonkeyPatch, owner: Any, name: str
                 ) -> list[tuple]:
  """The positional arguments of each call from now on."""
  return act_at_call(patch, owner, name, 0, _kill)


def kill_at_call(patch: pytest.MonkeyPatch, owner: Any, name: str, number: int,
                 run: Callable[[], Any]) -> list[tuple]:
  """Makes a run that ends when a function is called for that time.

  Returns:
    The positional arguments of all calls, the deadly one included.
  """
  with patch.context() as inner:
    calls = act_at_call(inner, owner, name, number, _kill)
    with pytest.raises(Killed):
      run()
  return calls


def place(workdir: Any) -> Place | None:
  """That of the newest checkpoint, None if there is none."""
  with workdir_lib.open_checkpoints(str(workdir)) as checkpoints:
    return checkpoints.latest


def _kill() -> None:
  raise Killed
