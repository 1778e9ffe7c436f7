# SPDX-License-Identifier: Apache-2.0
"""Several hosts in one run: how they join, agree and leave.

  hosts.join('10.0.0.1:1234', 4, index)     # before JAX sees a device
  with hosts.guard():                       # a lost host is one line, no hang
    ...
    hosts.check_agreement('train state', state)

JAX ends a process whose peers are gone with `abort` and a C++ stack, or not at
all while it waits for them.  Here the process says in one line what happened
and leaves at once, without the farewell that the others would never answer.
"""

from collections.abc import Iterator
import contextlib
import ctypes
import faulthandler
import os
import re
import signal
import sys
import tempfile
import threading
import traceback
from typing import NoReturn
import zlib

import jax
from jax.experimental import multihost_utils
import numpy as np

from promptcl.train_lib.core.parallel import PyTree

# EX_UNAVAILABLE of sysexits.h: another host is gone.
LOST_STATUS = 69
TIMEOUT = 100  # seconds, JAX's own default
_DETECTED = 'JAX distributed service detected fatal errors'
# What collectives of CPUs and GPUs say of a peer that is gone.
_PEER = re.compile(
    r'gloo|nccl|UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED', re.I)
_ADVICE = ('start all hosts again with the same command, they go on from the '
           'newest checkpoint; a host that failed by itself says why in its '
           'own output')
_leaving = threading.Lock()
_kept: list[object] = []  # what C holds a pointer to


def join(coordinator: str | None, num_hosts: int | None, host: int | None, *,
         timeout: int = TIMEOUT, patience: int = 300, debug: bool = False
         ) -> None:
  """Connects this host with the others, before JAX sees a device.

  Args:
    coordinator: host:port of the first host; None asks the scheduler (SLURM,
      Open MPI, Kubernetes, Cloud TPU), as for the other two.
    num_hosts: processes in the run.
    host: index of this one.
    timeout: seconds of silence after which a host is lost.
    patience: seconds to wait for all to come.
    debug: leave everything that JAX writes on stderr as it is.

  Raises:
    ValueError: nobody says what was left out.
    OSError: the first host cannot listen at the address.
  """
  if not debug:
    _tell_aborts(f'not all hosts met at {coordinator or "the first one"} '
                 f'within {patience} s; start all of them, with the same '
                 'address and number of hosts, each with its own index',
                 timeout)
  try:
    jax.distributed.initialize(
        coordinator, num_hosts, host, heartbeat_timeout_seconds=timeout,
        initialization_timeout=patience)
  except ValueError as error:
    raise ValueError(
        'no scheduler says how many hosts there are and which one this is '
        f'({error}); give --coordinator, --num_hosts and --host') from error
  except jax.errors.JaxRuntimeError as error:
    raise OSError(f'cannot open {coordinator}: {_first_line(error)}') from error
  _kept.append('joined')


def several() -> bool:
  """Whether there are others; initializes no device."""
  return jax.distributed.is_initialized()


def first() -> bool:
  """Whether this is the host that writes and talks."""
  return jax.process_index() == 0


def leave(status: int, *, together: bool = False) -> NoReturn:
  """Ends the process; all hosts `together` say goodbye, one alone does not."""
  if not several() or together:
    sys.exit(status)
  _leaving.acquire()  # once; who comes second waits for the end
  for stream in sys.stdout, sys.stderr:
    stream.flush()
  os._exit(status)


@contextlib.contextmanager
def guard() -> Iterator[None]:
  """Context that a host leaves at once when it cannot go on with the others.

  Errors that `main` tells in one line pass.
  """
  try:
    yield
  except (ValueError, OSError, FloatingPointError, MemoryError):
    raise
  except Exception as error:  # pylint: disable=broad-except
    if not several():
      raise
    if lost(error):
      _say(f'another host was lost ({_first_line(error)}); {_ADVICE}')
      leave(LOST_STATUS)
    traceback.print_exc()
    leave(1)


def lost(error: Exception) -> bool:
  """Whether it says that another host is gone, whoever met it first."""
  return (several() and isinstance(error, jax.errors.JaxRuntimeError)
          and bool(_PEER.search(str(error))))


def check_agreement(what: str, tree: PyTree) -> None:
  """Compares arrays of all hosts by checksum; free with one host.

  Args:
    what: the arrays are, for the message.
    tree: of NumPy arrays, of one structure on all hosts.

  Raises:
    ValueError: they differ, on all hosts; names the first path that does.
  """
  if jax.process_count() == 1:
    return
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  sums = np.array([zlib.crc32(np.ascontiguousarray(leaf).tobytes())
                   for _, leaf in leaves], np.uint32)
  everywhere = multihost_utils.process_allgather(sums)
  wrong = np.flatnonzero((everywhere != everywhere[0]).any(axis=0))
  if wrong.size:
    path = jax.tree_util.keystr(
        leaves[wrong[0]][0], simple=True, separator='/')
    others = np.flatnonzero((everywhere != everywhere[0]).any(axis=1))
    raise ValueError(f'hosts do not have the same {what}: {path} of host '
                     f'{others[0]} is not that of host 0')


def _tell_aborts(not_joined: str, timeout: int) -> None:
  """Replaces JAX's way of ending the process by one line.

  What C++ writes on stderr goes to a file, for it comes before the abort; it is
  shown if the reason was another one.
  """
  written, path = tempfile.mkstemp()
  os.unlink(path)
  real = os.fdopen(os.dup(2), 'w', buffering=1, errors='replace')
  sys.stderr.flush()
  os.dup2(written, 2)
  sys.stderr = sys.__stderr__ = real
  faulthandler.enable(real)

  @ctypes.CFUNCTYPE(None, ctypes.c_int)
  def aborted(unused_signal):
    text = os.pread(written, os.fstat(written).st_size, 0).decode(
        errors='replace')
    if _DETECTED not in text:
      real.write(text)
      return  # and abort goes on
    _leaving.acquire()
    _say(f'{_lost(text)} (silent for {timeout} s or disconnected); {_ADVICE}'
         if 'joined' in _kept else not_joined)
    real.flush()
    os._exit(LOST_STATUS)

  _kept.append(aborted)
  ctypes.CDLL(None).signal(signal.SIGABRT, aborted)


def _lost(text: str) -> str:
  """Which host JAX's last words speak of."""
  if match := re.search(r'heartbeats\):\s+(\d+)|Task (\d+) heartbeat', text):
    return f'host {match[1] or match[2]} was lost'
  if 'leader task was' in text:
    return 'host 0 was lost'
  return 'another host was lost'


def _say(what: str) -> None:
  print(f'\nerror: {what}', file=sys.stderr)


def _first_line(error: Exception) -> str:
  return str(error).strip().splitlines()[0]
