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
"""SIGTERM and Ctrl-C: a run stops where it can go on, not where it was hit.

  with Interrupt() as interrupt:
    ...                       # a signal is noted and told
    interrupt.check()         # raises Stopped if there was one
"""

import os
import signal
import threading
from typing import Any

import jax

# EX_TEMPFAIL of sysexits.h: nothing is wrong, the same command goes on.
EXIT_STATUS = 75
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(KeyboardInterrupt):
  """The run was asked to stop; says where it goes on."""


class Interrupt:
  """Context in which the first signal is noted and a second Ctrl-C kills.

  Hosts of a larger run would have to stop at one step together, so there
  signals keep the meaning they had.

  Attributes:
    requested: name of the signal that came; empty before.
  """

  def __init__(self):
    self.requested = ''
    self._before: dict[int, Any] = {}

  def __enter__(self) -> 'Interrupt':
    alone = jax.process_count() == 1
    if alone and threading.current_thread() is threading.main_thread():
      self._before = {number: signal.signal(number, self._note)
                      for number in _SIGNALS}
    return self

  def __exit__(self, *unused: Any) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def check(self, where: str = '') -> None:
    """Raises `Stopped` after a signal."""
    if self.requested:
      raise Stopped(f'stopped by {self.requested}{where}; the same command '
                    'goes on there')

  def _note(self, number: int, frame: Any) -> None:
    del frame
    self.requested = self.requested or signal.Signals(number).name
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Not print: the signal may have come in the middle of one.
    os.write(2, f'\n{self.requested}: saving; Ctrl-C stops at once\n'.encode())
