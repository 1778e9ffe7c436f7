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
"""A run of main.py that is sent a signal at a point of its own.

  python -m tests.torture.victim COUNT DELAY SIGKILL main.py --my_config=R ...

That is `DELAY` seconds after it came to the `COUNT`th of the points below; it
says on stderr which one that was.
"""

import functools
import os
import runpy
import signal
import sys
import threading
import time
from typing import Any

import input_pipeline
from train_lib import checkpoint
from train_lib import evaluate
from train_lib import report
from train_lib import run_log
from train_lib import train

# What is called, where, and what is going on then.
POINTS = (
    (checkpoint.Checkpointer, 'restore_latest', 'restoring'),
    (run_log, 'rewind', 'rewinding events'),
    (train, 'begin_task', 'beginning a task'),
    (run_log.RunLog, 'train_step', 'step'),
    (run_log.RunLog, 'flush_train', 'writing metrics'),
    (checkpoint.Checkpointer, 'save', 'saving'),
    (evaluate.Evaluator, '_score', 'evaluating'),
    (train, 'end_task', 'ending a task'),
    (input_pipeline.ReplayStream, 'end_task', 'storing for replay'),
    (report, 'save', 'writing results'),
)


class Killer:
  """Counts points and sends this process a signal."""

  def __init__(self, count: int, delay: float, number: int):
    self._left, self._delay, self._number = count, delay, number

  def arm(self, owner: Any, name: str, label: str) -> None:
    """Makes a function a point at its start and at its end."""
    function = getattr(owner, name)

    @functools.wraps(function)
    def wrapped(*args, **options):
      self._reach(label)
      result = function(*args, **options)
      self._reach(f'after {label}')
      return result

    setattr(owner, name, wrapped)

  def _reach(self, label: str) -> None:
    self._left -= 1
    if self._left == 0:
      os.write(sys.__stderr__.fileno(), f'\npoint: {label}\n'.encode())
      if self._delay:
        threading.Thread(target=self._kill, daemon=True).start()
      else:
        self._kill()

  def _kill(self) -> None:
    time.sleep(self._delay)
    os.kill(os.getpid(), self._number)


def main() -> None:
  killer = Killer(int(sys.argv[1]), float(sys.argv[2]),
                  signal.Signals[sys.argv[3]])
  for point in POINTS:
    killer.arm(*point)
  sys.argv = sys.argv[4:]
  runpy.run_path(sys.argv[0], run_name='__main__')


if __name__ == '__main__':
  main()
