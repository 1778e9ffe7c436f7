# SPDX-License-Identifier: Apache-2.0
"""Runs the command in this process, so that many wrong inputs cost seconds.

  done = command.run(['--my_config=recipe.py', '--workdir=run'])
  done.status, done.stdout, done.stderr
"""

from collections.abc import Sequence
import contextlib
import dataclasses
import io
import signal
import sys
from unittest import mock

from absl import app
from absl import flags
from absl import logging
import jax

import main


@dataclasses.dataclass(frozen=True)
class Done:
  """What the command left: exit status and the text of both streams."""

  status: int
  stdout: str
  stderr: str

  @property
  def complaint(self) -> str:
    """Standard error without empty lines."""
    return '\n'.join(x for x in self.stderr.splitlines() if x.strip())


def run(arguments: Sequence[str]) -> Done:
  """`python main.py *arguments` by its own entry, in the current folder."""
  stdout, stderr = io.StringIO(), io.StringIO()
  argv, status = ['main.py', *arguments], 0
  with (_untouched(), mock.patch.object(sys, 'argv', argv),
        contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr)):
    try:
      app.run(main.main, flags_parser=main.parse_flags)
    except SystemExit as stop:
      status = stop.code or 0
  return Done(status, stdout.getvalue(), stderr.getvalue())


@contextlib.contextmanager
def _untouched():
  """Takes back what the command changes in its process."""
  handler = logging.get_absl_handler()
  filters, verbosity = list(handler.filters), logging.get_verbosity()
  hook, nans = sys.unraisablehook, jax.config.jax_debug_nans
  terminate = signal.getsignal(signal.SIGTERM)
  try:
    yield
  finally:
    _forget_flags()
    handler.filters[:], sys.unraisablehook = filters, hook
    logging.set_verbosity(verbosity)
    jax.config.update('jax_debug_nans', nans)
    signal.signal(signal.SIGTERM, terminate)


def _forget_flags() -> None:
  """Flags and recipe are as if nothing had ever been typed."""
  for name in list(flags.FLAGS):
    if name.startswith('my_config.'):  # the library defines what it is given
      delattr(flags.FLAGS, name)
  for flag in flags.FLAGS.flags_by_module_dict()[main.__name__]:
    flag.unparse()
  sys.modules.pop('my_config_config', None)
