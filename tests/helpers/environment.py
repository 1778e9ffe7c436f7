# SPDX-License-Identifier: Apache-2.0
"""What tests and the processes that they start run in.

  environment.set_up(num_devices=8)                  # before JAX is imported
  subprocess.run(command, env=environment.of_child(num_devices=1))
"""

from collections.abc import Callable
import gc
import getpass
import hashlib
import os
import pathlib
import platform
import tempfile
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Most of the tests' time goes into compiling what runs once: the older code
# generator of XLA, in one part, is twice as fast at it.
_FAST = ('--xla_cpu_use_fusion_emitters=false',
         '--xla_cpu_parallel_codegen_split_count=1')
_DEVICES = '--xla_force_host_platform_device_count'
_CPUINFO = pathlib.Path('/proc/cpuinfo')
# What Linux says of a processor; abilities have one name on x86, one on ARM.
_ABILITIES = ('vendor_id', 'cpu family', 'model', 'flags', 'Features')


def set_up(num_devices: int) -> None:
  """Sets this process's environment, whatever the caller's shell says."""
  paths = [str(ROOT), os.environ.get('PYTHONPATH', '')]
  os.environ.update({
      'XLA_FLAGS': xla_flags(num_devices),
      'JAX_PLATFORMS': 'cpu',
      'CUDA_VISIBLE_DEVICES': '',
      'PYTHONPATH': os.pathsep.join(filter(None, paths)),
      'TF_CPP_MIN_LOG_LEVEL': '2',
      'TF_ENABLE_ONEDNN_OPTS': '0',
      # A second thread only waits for the first at these sizes.
      'OPENBLAS_NUM_THREADS': '1',
      'JAX_COMPILATION_CACHE_DIR': cache(
          os.environ.get('JAX_COMPILATION_CACHE_DIR', '')),
      # Tiny programs make up most of the suite: cache them all.
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.05',
      'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
      'JAX_DISABLE_MOST_OPTIMIZATIONS': os.environ.get(
          'JAX_DISABLE_MOST_OPTIMIZATIONS', '1')})


def xla_flags(num_devices: int, *more: str) -> str:
  """XLA's flags for tests: what the shell sets, but for what is set here."""
  ours = (f'{_DEVICES}={num_devices}', *_FAST, *more)
  names = {flag.partition('=')[0] for flag in ours}
  others = [flag for flag in os.environ.get('XLA_FLAGS', '').split()
            if flag.partition('=')[0] not in names]
  return ' '.join([*others, *ours])


def of_child(num_devices: int = 1, *flags: str, **more: str
             ) -> dict[str, str]:
  """The environment for another process with so many devices.

  Args:
    num_devices: it sees.
    *flags: more of XLA's.
    **more: variables.
  """
  return {**os.environ, 'XLA_FLAGS': xla_flags(num_devices, *flags), **more}


def collect_seldom() -> None:
  """Keeps what there is out of garbage collections, and makes these rare."""
  gc.collect()
  gc.freeze()
  gc.set_threshold(200_000, 20, 20)


def with_room(function: Callable[..., Any], *args: Any) -> Any:
  """Calls a function so that deep recursion within it is quick.

  CPython keeps frames in chunks of 16 KiB and returns the last one to the
  system whenever the stack leaves it, which tracing does all the time: a tenth
  of the suite.  A frame that fills more than half of a chunk of 2 MiB leaves
  the rest of that chunk to all frames above it.
  """
  return function(*args)


with_room.__code__ = with_room.__code__.replace(co_stacksize=(1 << 17) + 2000)


def cache(folder: str = '') -> str:
  """The folder of compiled programs; processors of other abilities have others.

  A program is found there by what it computes, so a second trace in one run,
  which is counted before, is never hidden by it.

  Args:
    folder: that was chosen; '' is one per user.
  """
  user = f'jax_continual_prompting_{getpass.getuser()}'
  base = pathlib.Path(folder or os.path.join(tempfile.gettempdir(), user))
  return str(base if base.name == processor() else base / processor())


def processor() -> str:
  """Such as 'x86_64-1f0c9a2b': the same for processors of equal abilities.

  Compiled programs use what the processor can do that they were made on, and
  the last bit of a sum follows from it.
  """
  told = platform.processor()
  if _CPUINFO.is_file():
    fields = dict(map(str.strip, line.split(':', 1))
                  for line in _CPUINFO.read_text().splitlines() if ':' in line)
    told = ' '.join(fields[key] for key in _ABILITIES if key in fields)
  digest = hashlib.sha256(told.encode()).hexdigest()[:8]
  return f'{platform.machine()}-{digest}'
