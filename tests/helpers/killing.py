# SPDX-License-Identifier: Apache-2.0
"""Runs that end in the middle, in this process.

for point in points:  # each start goes on where the last one was saved
  killing.end_at(point, run, workdir)
"""

from collections.abc import Callable
import dataclasses
import os
import signal
from typing import Any

import pytest

from promptcl.train_lib.records import run_log
from promptcl.train_lib.resume import interrupt
from promptcl.train_lib.resume import workdir as workdir_lib
from promptcl.train_lib.resume.checkpoint import ResumePoint


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


@dataclasses.dataclass(frozen=True)
class Point:
  """Where a start of a run ends.

  Attributes:
    owner, name, call: it ends when this function is called for that time.
    steps: that the start makes; the one that it dies in does not count.
    resume_point: (task, steps, stage) of the newest checkpoint then, None for
      none.
    stopped: by a signal, which saves the run; else it dies.
  """

  owner: Any
  name: str
  call: int
  steps: int
  resume_point: tuple[int, int, str] | None
  stopped: bool = False


def end_at(point: Point, run: Callable[[], Any], workdir: Any) -> None:
  """Starts a run that ends at a point, and checks how far it came."""
  action, error, told = (
      (_terminate, interrupt.Stopped, 'SIGTERM.*goes on') if point.stopped else
      (_kill, Killed, None))
  with pytest.MonkeyPatch.context() as patch:
    steps = record_calls(patch, run_log.RunLog, 'train_step')
    act_at_call(patch, point.owner, point.name, point.call, action)
    with pytest.raises(error, match=told):
      run()
  found = resume_point(workdir)
  assert (len(steps), found and (found.task, found.steps, found.stage)) == (
      point.steps, point.resume_point), point


def resume_point(workdir: Any) -> ResumePoint | None:
  """That of the newest checkpoint, None if there is none."""
  with workdir_lib.open_checkpoints(str(workdir)) as checkpoints:
    return checkpoints.latest


def _kill() -> None:
  raise Killed


def _terminate() -> None:
  os.kill(os.getpid(), signal.SIGTERM)
