# SPDX-License-Identifier: Apache-2.0
"""Commands of Python in processes that have imported everything already.

  run = preloaded.start('main.py', '--workdir=run', env=os.environ)
  assert run.wait() == 0, run.errors

What such a process imports costs more than the small run that follows.  Here
one process imports it and makes the others by a fork (the standard library's
`forkserver`).  Whether the imports themselves are right is asked by
`main_test` and `golden`, which start Python itself.
"""

import atexit
from collections.abc import Mapping
import functools
import multiprocessing
import os
import pathlib
import runpy
import shutil
import signal
import sys
import tempfile
import weakref

from tests.helpers import environment

_START = 'forkserver'
# Of these `tests.helpers.programs` brings the project and JAX.
_PRELOAD = ('clu.metric_writers', 'orbax.checkpoint', 'matplotlib.pyplot',
            'tests.helpers.programs', 'tests.torture.victim', __name__)


class Run:
  """A process that was started; a context that kills what is left of it.

  Attributes:
    pid: of the process.
  """

  def __init__(self, process: multiprocessing.Process,
               written: str):
    """`written` is the folder of `output` and `errors`, which goes with it."""
    self._process, self._written = process, pathlib.Path(written)
    self.pid = process.pid
    weakref.finalize(self, shutil.rmtree, written, ignore_errors=True)

  def __enter__(self) -> 'Run':
    return self

  def __exit__(self, *unused) -> None:
    self.kill()

  def kill(self) -> None:
    """Ends it at once, if it has not ended."""
    self._process.kill()
    self._process.join()

  @property
  def status(self) -> int | None:
    """Of its exit, negative for a signal; None while it runs."""
    return self._process.exitcode

  def wait(self, timeout: float = 300) -> int:
    """Its status; `TimeoutError` after so many seconds."""
    self._process.join(timeout)
    if self.status is None:
      raise TimeoutError(f'still runs after {timeout} s: {self.errors[-2000:]}')
    return self.status

  @property
  def output(self) -> str:
    """What it wrote so far."""
    return (self._written / 'output').read_text()

  @property
  def errors(self) -> str:
    """What it wrote to stderr so far."""
    return (self._written / 'errors').read_text()


def start(*arguments: str, env: Mapping[str, str],
          folder: str | os.PathLike[str] = '.') -> Run:
  """Starts what `python *arguments` would run: a script, or `-c` and
  code, or `-m` and a module.

  Args:
    *arguments: with those of the script behind it.
    env: environment; what JAX and TensorFlow read of it when they are imported
      is that of this process at the first start.
    folder: to run in.
  """
  context = multiprocessing.get_context(_START)
  context.set_forkserver_preload(list(_PRELOAD))
  written = tempfile.mkdtemp()
  for name in 'output', 'errors':
    (pathlib.Path(written) / name).touch()
  process = context.Process(target=_run, args=(
      [str(x) for x in arguments], dict(env), str(folder), written))
  process.start()
  return Run(process, written)


def _run(arguments, env, folder, written):
  """What the new process does, as Python itself would."""
  for number, name in enumerate(('output', 'errors'), start=1):
    file = os.open(os.path.join(written, name), os.O_WRONLY | os.O_APPEND)
    os.dup2(file, number)
  os.environ.clear()
  os.environ.update(env)
  os.chdir(folder)
  signal.signal(signal.SIGINT, signal.default_int_handler)
  environment.collect_seldom()
  try:
    if arguments[0] == '-c':
      sys.argv = ['-c', *arguments[2:]]
      environment.with_room(exec, arguments[1], {'__name__': '__main__'})
    elif arguments[0] == '-m':
      sys.argv = arguments[1:]
      environment.with_room(functools.partial(
          runpy.run_module, arguments[1], run_name='__main__', alter_sys=True))
    else:
      sys.argv = arguments
      sys.path.insert(0, os.path.dirname(arguments[0]))
      environment.with_room(functools.partial(
          runpy.run_path, arguments[0], run_name='__main__'))
  finally:
    atexit._run_exitfuncs()  # pylint: disable=protected-access
