# SPDX-License-Identifier: Apache-2.0
"""What a program takes: as XLA plans it, and as the device counts it."""

import pathlib
import resource
import sys
from typing import Any

import jax


def total(planned: Any) -> int:
  """What XLA plans for one device: arguments, results, intermediate values.

  Args:
    planned: a compiled program's `memory_analysis()`.
  """
  return (planned.argument_size_in_bytes + planned.output_size_in_bytes
          + planned.temp_size_in_bytes - planned.alias_size_in_bytes)


def peak() -> tuple[int, str]:
  """Most bytes ever held: of the device if it counts them, else resident."""
  stats = jax.local_devices()[0].memory_stats()
  if stats and 'peak_bytes_in_use' in stats:
    return stats['peak_bytes_in_use'], 'device'
  # Linux's own figure leaves out the parent, which ru_maxrss counts.
  status = pathlib.Path('/proc/self/status')
  if status.is_file():
    for line in status.read_text().splitlines():
      if line.startswith('VmHWM:'):
        return int(line.split()[1]) * 1024, 'process'
  unit = 1 if sys.platform == 'darwin' else 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, 'process'
