# SPDX-License-Identifier: Apache-2.0
"""The dearest operations of a compiled step, from a trace of JAX's profiler.

  operations.record(step, folder)       # the trace and `dearest.txt`

The trace is JSON in Chrome's format, which the standard library reads; what
else is in the folder is for TensorBoard and Perfetto.
"""

import collections
from collections.abc import Iterable, Mapping
import gzip
import json
import pathlib
import re
from typing import Any, TYPE_CHECKING

import jax

if TYPE_CHECKING:
  from benchmarks import measure

STEPS = 3
# An instruction of XLA's text, and the place in our code that it came from.
_INSTRUCTION = re.compile(
    r'^\s*(?:ROOT )?%?([\w.-]+) = .*?metadata={op_name="([^"]+)"', re.M)
_START = re.compile(r'^jit\(\w*\)/')
_BLOCK = re.compile(r'(encoderblock)_\d+')
# Threads of a GPU and of a TPU that hold what it computed; others repeat it.
_COMPUTING = re.compile(r'Stream|XLA Ops$')

Event = Mapping[str, Any]


def record(step: 'measure.Step', folder: pathlib.Path, *, count: int = 10
           ) -> str:
  """Traces a few runs of a compiled step.

  Args:
    step: a `measure.Step` that ran before.
    folder: of the trace; `dearest.txt` in it holds what is returned.
    count: number of operations.

  Returns:
    A table, dearest operation first, with times of one step.

  Raises:
    ValueError: the trace holds no operation of a device.
  """
  options = jax.profiler.ProfileOptions()
  options.python_tracer_level = 0  # Python's calls would fill the trace
  before = set(folder.rglob('*.trace.json.gz'))
  with jax.profiler.trace(folder, profiler_options=options):
    step.run(STEPS)
  events = []
  for path in set(folder.rglob('*.trace.json.gz')) - before:
    events += json.loads(gzip.decompress(path.read_bytes()))['traceEvents']
  found = seconds(events, places(step.compiled.as_text()))
  if not found:
    raise ValueError('the trace holds no operation of a device')
  text = table(found, count, STEPS)
  (folder / 'dearest.txt').write_text(text)
  return text


def places(compiled: str) -> dict[str, str]:
  """XLA's name of an instruction -> where in our code it came from.

  Args:
    compiled: XLA's text of a program; blocks of the encoder become one.
  """
  return {name: _BLOCK.sub(r'\1_*', _START.sub('', place))
          for name, place in _INSTRUCTION.findall(compiled)}


def seconds(events: Iterable[Event], places: Mapping[str, str]
            ) -> dict[str, float]:
  """Seconds of each operation over all threads, without what it calls.

  Args:
    events: of a trace: those of devices, or on a CPU those of XLA's threads.
    places: names of instructions -> names to add them up under.
  """
  events = list(events)
  computing = _computing(events)
  threads = collections.defaultdict(list)
  for event in events:
    thread = event.get('pid'), event.get('tid')
    if event.get('ph') == 'X' and (
        thread in computing if computing else 'hlo_op' in _args(event)):
      threads[thread].append(event)
  total = collections.defaultdict(float)
  for thread in threads.values():
    for event, own in _own_times(thread):
      name = _args(event).get('hlo_op', event['name'])
      total[places.get(name, name)] += own / 1e6
  return dict(total)


def _args(event: Event) -> Event:
  return event.get('args') or {}


def _computing(events: list[Event]) -> set[tuple[int, int]]:
  """Process and thread of each line of a device that holds operations."""
  devices = {e['pid'] for e in events if e.get('name') == 'process_name'
             and _args(e).get('name', '').startswith('/device:')}
  return {(e['pid'], e['tid']) for e in events
          if e.get('name') == 'thread_name' and e['pid'] in devices
          and _COMPUTING.match(_args(e).get('name', ''))}


def _own_times(events: list[Event]) -> list[tuple[Event, float]]:
  """Each event of a thread with its microseconds less those inside it."""
  own, running = [], []
  for event in sorted(events, key=lambda e: (e['ts'], -e['dur'])):
    while running and event['ts'] >= running[-1][0]:
      running.pop()
    if running:
      own[running[-1][1]][1] -= event['dur']
    running.append((event['ts'] + event['dur'], len(own)))
    own.append([event, event['dur']])
  return [(event, time) for event, time in own]


def table(found: Mapping[str, float], count: int, steps: int) -> str:
  """The dearest operations as text.

  Args:
    found: seconds of each, over all steps.
    count: how many are listed.
    steps: how many were traced.
  """
  total = sum(found.values())
  lines = [f'{"ms a step":>10}{"share":>8}  operation']
  for name, time in sorted(found.items(), key=lambda i: -i[1])[:count]:
    lines.append(f'{time / steps * 1e3:>10.3f}{time / total:>8.1%}  {name}')
  lines.append(f'{total / steps * 1e3:>10.3f}{1:>8.1%}  all {len(found)}')
  return '\n'.join(lines) + '\n'
