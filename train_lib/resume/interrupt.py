# SPDX-License-Identifier: Apache-2.0
"""SIGTERM and Ctrl-C: a run stops where it can go on, not where it was hit.

  with Interrupt() as interrupt:
    ...                       # a signal is noted
    interrupt.check()         # raises Stopped if there was one

Several hosts must stop at the same step, and a signal may come to one of them
only.  There SIGTERM is left to JAX, which lets the hosts agree on one of the
next questions (`asked` or `check`, the same ones in the same order on all).
"""

from collections.abc import Callable
import itertools
import os
import signal
import sys
import threading
import types

import jax
from jax.experimental import multihost_utils

# EX_TEMPFAIL of sysexits.h: nothing is wrong, the same command goes on.
EXIT_STATUS = 75
Handler = Callable[[int, types.FrameType | None], object] | int | None
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_questions = itertools.count(1)  # to all hosts, in this process


class Stopped(KeyboardInterrupt):
  """The run was asked to stop; says where it goes on."""


class Interrupt:
  """Context in which the first signal is noted and a second Ctrl-C kills.

  Attributes:
    requested: name of the signal that came, or of several hosts that one of
      them was sent one; empty before.
  """

  def __init__(self):
    self.requested = ''
    self._alone = jax.process_count() == 1
    self._before: dict[int, Handler] = {}

  def __enter__(self) -> 'Interrupt':
    if threading.current_thread() is threading.main_thread():
      handlers = ({number: self._note for number in _SIGNALS} if self._alone
                  else {signal.SIGINT: self._pass_on})
      self._before = {number: signal.signal(number, handler)
                      for number, handler in handlers.items()}
    return self

  def __exit__(self, *unused: object) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def asked(self) -> bool:
    """Whether to stop here; all hosts get the same answer."""
    if not self._alone and not self.requested and (
        multihost_utils.reached_preemption_sync_point(next(_questions))):
      self.requested = 'a signal to one of the hosts'
    return bool(self.requested)

  def check(self, where: str = '') -> None:
    """Raises `Stopped` after a signal."""
    if self.asked():
      raise Stopped(f'stopped by {self.requested}{where}; the same command '
                    'goes on there')

  def _note(self, number: int, frame: types.FrameType | None) -> None:
    del frame
    self.requested = self.requested or signal.Signals(number).name
    _announce(self.requested)

  def _pass_on(self, number: int, frame: types.FrameType | None) -> None:
    """Makes Ctrl-C on one host a SIGTERM, for which JAX waits."""
    del frame
    _announce(signal.Signals(number).name)
    os.kill(os.getpid(), signal.SIGTERM)


def _announce(name: str) -> None:
  """Says what goes on; the next Ctrl-C ends the process."""
  signal.signal(signal.SIGINT, signal.SIG_DFL)
  # Not print: the signal may have come in the middle of one.
  os.write(sys.__stderr__.fileno(),
           f'\n{name}: saving; Ctrl-C stops at once\n'.encode())
