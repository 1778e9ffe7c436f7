# SPDX-License-Identifier: Apache-2.0
"""Trains and evaluates a prompt-based continual learner.

  python main.py --my_config configs/digits_l2p.py --workdir /tmp/digits_l2p
  tensorboard --logdir /tmp/digits_l2p
  python main.py --list  # what else --my_config takes
"""

import os
import signal
import sys
import traceback
from typing import NoReturn

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')

# pylint: disable=g-import-not-at-top
from absl import app
from absl import flags
from absl import logging
import jax
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file(
    'my_config', None, 'A recipe, such as configs/digits_l2p.py; see --list.',
    lock_config=False, accept_new_attributes=True)
_WORKDIR = flags.DEFINE_string(
    'workdir', None, 'Where results, events and checkpoints go.')
_LIST = flags.DEFINE_bool(
    'list', False, 'Print all recipes, methods, streams and presets, stop.')
_DRY_RUN = flags.DEFINE_bool(
    'dry_run', False, 'Read config, data and weights, print the plan, stop.')
_DEBUG = flags.DEFINE_bool('debug', False, 'Show tracebacks.')
_DEBUG_NANS = flags.DEFINE_bool(
    'debug_nans', False, 'Stop at the operation that makes a NaN; slow.')
_COORDINATOR = flags.DEFINE_string(
    'coordinator', None, 'host:port of the first host of a multi-host run.')
_NUM_HOSTS = flags.DEFINE_integer('num_hosts', None, 'Hosts in the run.')
_HOST = flags.DEFINE_integer('host', None, 'Index of this host.')
_DISTRIBUTED = flags.DEFINE_bool(
    'distributed', False, 'A multi-host run of which SLURM, a TPU pod slice, '
    'Kubernetes or Open MPI says what the three flags above would.')
_HOST_TIMEOUT = flags.DEFINE_integer(
    'host_timeout', 100, 'Seconds of silence after which a host is lost.',
    lower_bound=1)
flags.mark_flags_as_required(['my_config', 'workdir'])


def join_hosts() -> None:
  """Connects the hosts of a multi-host run, before JAX sees a device."""
  from promptcl.train_lib.core import hosts
  named = [flag.value for flag in (_COORDINATOR, _NUM_HOSTS, _HOST)]
  if named == [None] * 3 and not _DISTRIBUTED.value:
    return
  if None in named and not _DISTRIBUTED.value:
    raise ValueError('--coordinator, --num_hosts and --host belong together; '
                     '--distributed finds them by itself')
  hosts.join(*named, timeout=_HOST_TIMEOUT.value, debug=_DEBUG.value)


def run() -> None:
  """Everything between the flags and the results."""
  from promptcl.configs import presets
  from promptcl.train_lib import comparisons
  from promptcl.train_lib import program as program_lib
  from promptcl.train_lib import train
  from promptcl.train_lib.core import device_memory
  from promptcl.train_lib.records import run_log
  from promptcl.train_lib.resume import workdir as workdir_lib
  from promptcl.train_lib.startup import startup

  logging.set_verbosity(logging.INFO if _DEBUG.value else logging.ERROR)
  if not _DEBUG.value:
    be_quiet()
  jax.config.update('jax_debug_nans', _DEBUG_NANS.value)
  config, workdir = startup.expand(_CONFIG.value), _WORKDIR.value
  startup.check(config)
  workdir_lib.check(workdir)
  join_hosts()
  typed = config_flags.get_override_values(flags.FLAGS['my_config'])
  for line in (*startup.notes(_CONFIG.value, config),
               *presets.notes(config, typed)):
    tell('note:', line)
  program, stream = train.prepare(config)
  tell(program_lib.plan(program, stream, workdir))
  tell(run_log.parameter_overview(program))
  if _DRY_RUN.value:
    return
  workdir_lib.make(workdir)
  with device_memory.explained(config):
    results = train.train_and_evaluate(program, stream, workdir)
    tell(results.table(config.headline_metrics))
    if config.comparisons:
      tell(comparisons.run(program, stream, workdir, results))


def tell(*text: str) -> None:
  """Prints on the first host."""
  from promptcl.train_lib.core import hosts
  if hosts.first():
    print(*text, flush=True)


def be_quiet() -> None:
  """Hides what libraries print of a failed save, which is raised as well."""
  in_background = ('/orbax/', '/asyncio/', '/clu/')
  logging.get_absl_handler().addFilter(
      lambda record: not any(p in record.pathname for p in in_background))
  report = sys.unraisablehook

  def report_others(unraisable):
    # Writes of the same save that failed after the first one.
    if str(unraisable.exc_value) != 'Event loop is closed':
      report(unraisable)

  sys.unraisablehook = report_others


def fail(error: Exception) -> NoReturn:
  """One line on stderr and exit status 1."""
  from promptcl.train_lib.core import hosts
  print('error:', ' '.join(str(error).split()), file=sys.stderr)
  hosts.leave(1)


def parse_flags(argv: list[str]) -> list[str]:
  """Parses the flags and loads the recipe; prints all of them if asked."""
  from promptcl.configs import listing
  from promptcl.train_lib.startup import command_line
  if f'--{_LIST.name}' in argv:
    print(listing.text())
    sys.exit()
  argv = command_line.with_own_recipes(argv)
  if '--debug' in argv:
    return app.parse_flags_with_usage(argv)
  try:
    return command_line.parse(argv)
  except ValueError as error:
    fail(error)


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    fail(ValueError(f'unexpected argument {argv[1]!r}; see --help'))
  from promptcl.train_lib.core import hosts
  from promptcl.train_lib.resume import interrupt
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  try:
    with hosts.guard():
      run()
  except (ValueError, OSError, FloatingPointError, MemoryError) as error:
    if _DEBUG.value:
      traceback.print_exc()
      hosts.leave(1)
    fail(error)
  except KeyboardInterrupt as stop:
    print(str(stop) or 'stopped; the same command goes on where it was saved',
          file=sys.stderr)
    hosts.leave(interrupt.EXIT_STATUS,
                together=isinstance(stop, interrupt.Stopped))


def console() -> None:
  """The command `promptcl` of an installed package."""
  app.run(main, flags_parser=parse_flags)


if __name__ == '__main__':
  console()
