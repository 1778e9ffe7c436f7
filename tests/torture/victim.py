# SPDX-License-Identifier: Apache-2.0
"""A run of main.py that is sent a signal at a point of its own.

  python -m tests.torture.victim SEED DELAY SIGKILL main.py --my_config=R ...

At each of the points below it draws whether the signal comes, `DELAY` seconds
later, and says on stderr which one that was.  Places that are seldom reached
are as likely to be the last as those that are reached all the time.
"""

import functools
import itertools
import os
import random
import runpy
import signal
import sys
import threading
import time
from typing import Any

from promptcl import input_pipeline
from promptcl.train_lib import evaluate
from promptcl.train_lib import probe
from promptcl.train_lib import train
from promptcl.train_lib.around import projection
from promptcl.train_lib.records import report
from promptcl.train_lib.records import run_log
from promptcl.train_lib.resume import checkpoint

# What is called, where, how often that kills, and what is going on then.
POINTS = (
    (checkpoint.Checkpointer, 'restore_latest', 0.03, 'restoring'),
    (run_log, 'rewind', 0.03, 'rewinding events'),
    (train, 'begin_task', 0.1, 'beginning a task'),
    (probe.Probe, 'inputs', 0.1, 'collecting inputs in a hook'),
    (probe.Probe, 'squared_gradients', 0.1, 'collecting gradients in a hook'),
    (projection, 'grown', 0.1, 'growing bases in a hook'),
    (run_log.RunLog, 'train_step', 0.01, 'step'),
    (run_log.RunLog, 'flush_train', 0.03, 'writing metrics'),
    (checkpoint.Checkpointer, 'save', 0.03, 'saving'),
    (evaluate.Evaluator, '_score', 0.03, 'evaluating'),
    (train, 'end_task', 0.1, 'ending a task'),
    (input_pipeline.ReplayStream, 'end_task', 0.1, 'storing for replay'),
    (report, 'save', 0.1, 'writing results'),
)


class Killer:
  """Draws at each point and sends this process a signal, once."""

  def __init__(self, seed: int, delay: float, number: int):
    self._rng, self._delay = random.Random(seed), delay
    self._number, self._armed = number, True

  def arm(self, owner: Any, name: str, chance: float, label: str) -> None:
    """Makes a function a point at its start and at its end."""
    function = getattr(owner, name)

    @functools.wraps(function)
    def wrapped(*args, **options):
      self._reach(chance, label)
      result = function(*args, **options)
      self._reach(chance, f'after {label}')
      return result

    setattr(owner, name, wrapped)

  def _reach(self, chance: float, label: str) -> None:
    if self._armed and self._rng.random() < chance:
      self._armed = False
      os.write(sys.__stderr__.fileno(), f'\npoint: {label}\n'.encode())
      if self._delay:
        threading.Thread(target=self._kill, daemon=True).start()
      else:
        self._kill()

  def _kill(self) -> None:
    time.sleep(self._delay)
    os.kill(os.getpid(), self._number)


def seed_for(count: int) -> int:
  """A seed whose signal comes at the `count`th point, whichever that is."""
  chances = [chance for *_, chance, _ in POINTS]
  for seed in itertools.count():
    rng = random.Random(seed)
    *before, last = (rng.random() for _ in range(count))
    if min(before, default=1) >= max(chances) and last < min(chances):
      return seed
  raise AssertionError('seeds do not end')


def main() -> None:
  killer = Killer(int(sys.argv[1]), float(sys.argv[2]),
                  signal.Signals[sys.argv[3]])
  for point in POINTS:
    killer.arm(*point)
  sys.argv = sys.argv[4:]
  runpy.run_path(sys.argv[0], run_name='__main__')


if __name__ == '__main__':
  main()
