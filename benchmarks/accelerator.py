# SPDX-License-Identifier: Apache-2.0
"""Measures the product's own steps on one GPU or TPU, in six minutes.

  python -m benchmarks.accelerator

needs no data and no compiled packages but jax, jaxlib, flax, optax and what
they bring.  First come the ceilings of the device, then a base case (L2P,
ViT-B/16, 224 px, bfloat16, 128 images), then the base with one thing changed at
a time.  README.md explains the rows and columns.  All rows share one process,
so that its start is paid once; the file of results is written after each row.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator
import gc
import json
import os
import pathlib
import sys
import time

from etils import epy

from benchmarks import accelerator_table as table

with epy.lazy_imports():  # so that their time counts, and --help is quick
  import jax

  from benchmarks import accelerator_cases as cases_lib
  from benchmarks import ceilings
  from benchmarks import machine
  from benchmarks import measure
  from benchmarks import operations
  from promptcl.train_lib import program as program_lib

Case = table.Row


def parse(argv: list[str] | None) -> argparse.Namespace:
  """The command line; `--small` replaces all sizes."""
  parser = argparse.ArgumentParser(
      prog='python -m benchmarks.accelerator',
      description=__doc__.split('\n')[0],
      formatter_class=argparse.ArgumentDefaultsHelpFormatter)
  add = parser.add_argument
  add('--model', default='ViT-B_16', help='a name of models/networks/vit.py')
  add('--image_size', type=int, default=224, help='pixels')
  add('--batch', type=int, default=128,
      help='images per device; two rows have the half and the double')
  add('--minutes', type=float, default=6.0,
      help='a row that would take longer than what is left of them is skipped')
  add('--rows', nargs='+', metavar='TEXT',
      help='only rows whose name contains one of these')
  add('--output', type=pathlib.Path, default=pathlib.Path('accelerator.json'),
      help='JSON file to write')
  add('--profile', type=pathlib.Path, metavar='FOLDER',
      help='keep a trace of the base case and its ten dearest operations')
  add('--small', action='store_true', help='a tiny model, on a CPU too')
  add('--markdown', type=pathlib.Path, metavar='FILE',
      help='print the table of a file of results, and measure nothing')
  options = parser.parse_args(argv)
  vars(options).update(cases_lib.FULL | (
      cases_lib.SMALL if options.small else {}))
  if min(options.batch, options.image_size, options.minutes) <= 0:
    parser.error('--batch, --image_size and --minutes must be positive')
  return options


def measurer(profile: pathlib.Path | None) -> Callable[[Case], Case]:
  """-> `measure_case(case) -> row`, which remembers ceilings and weights.

  Args:
    profile: where the trace of the base case goes, if wanted.
  """
  starts, reached = {}, {}

  def measure_case(case):
    gc.collect()
    jax.clear_caches()  # programs of rows before, also of those that failed
    if 'ceiling' in case:
      row = ceilings.measure(case)
      if case['ceiling'] == 'product' and not case['precision']:
        reached[case['dtype']] = row['per_second']
      return row
    config = measure.make_config(case)
    if case['recipe'] not in starts:
      program = program_lib.create(config, measure.NUM_CLASSES)
      starts[case['recipe']] = jax.device_get(program.start())
    step = measure.compile_step(case, starts[case['recipe']])
    row = measure.row(dict(case, scope=config.grad_clip_scope), step)
    row['share'] = share(row, reached.get(case['dtype']))
    if profile and case['name'] == cases_lib.BASE:
      row['dearest'] = dearest(step, profile)
    return row

  return measure_case


def share(row: Case, ceiling: float | None) -> float | None:
  """FLOPs of products a second, as a share of the ceiling of one device."""
  per_device = row['images_per_second'] / row['num_devices']
  return ceiling and row['product_flops_per_image'] * per_device / ceiling


def dearest(step: 'measure.Step', folder: pathlib.Path) -> str:
  """A table of operations, or why there is none, which costs no row."""
  try:
    return operations.record(step, folder)
  except Exception as e:  # whatever the profiler of this platform says
    return f'no profile: {_one_line(e)}\n'


def rows(todo: Iterable[Case], measure_case: Callable[[Case], Case], *,
         end: float, clock: Callable[[], float] = time.monotonic
         ) -> Iterator[Case]:
  """Measures case after case; one that fails costs only itself.

  Args:
    todo: the cases.
    measure_case: measures one.
    end: a case that would pass it is skipped, if it takes as long as the
      dearest before.
    clock: in seconds, as `end`.

  Yields:
    What was measured, or the case with `error` or `skipped`; `wall_seconds`.
  """
  longest = 0.0
  for case in todo:
    started = clock()
    if started + longest >= end:
      yield dict(case, skipped='no time left')
      continue
    try:
      row = measure_case(case)
    except Exception as e:  # out of memory, or a bug of one platform
      row = dict(case, error=_one_line(e))
    row['wall_seconds'] = clock() - started
    longest = max(longest, row['wall_seconds'])
    yield row


def _one_line(error: Exception) -> str:
  """What happened, short enough for a table."""
  lines = str(error).strip().splitlines() or ['']
  return f'{type(error).__name__}: {lines[0][:160]}'


def write(path: pathlib.Path, results: Case) -> None:
  """Writes a whole file or leaves the one before.

  Raises:
    OSError: it cannot be written.
  """
  part = path.with_name(path.name + '.part')
  try:
    part.write_text(json.dumps(results, indent=1) + '\n')
    os.replace(part, path)
  except OSError as e:
    raise OSError(f'{str(path)!r} cannot be written: {e.strerror}') from e


def run(options: argparse.Namespace, end: float) -> int:
  """Measures, prints and writes all rows; returns the exit status.

  Raises:
    OSError: a result cannot be written.
    ValueError: there is nothing to measure, or nothing to measure it on.
  """
  results = dict(machine.facts(), rows=[])
  if results['platform'] == 'cpu' and not options.small:
    raise ValueError('JAX finds no accelerator here; --small shows on a CPU '
                     'that the command runs')
  todo = cases_lib.cases(options)
  if options.profile:
    options.profile.mkdir(parents=True, exist_ok=True)
  write(options.output, results)
  print(table.made_on(results), table.header(), sep='\n', flush=True)
  for row in rows(todo, measurer(options.profile), end=end):
    results['rows'].append(row)
    write(options.output, results)
    print(table.line(row), flush=True)
    if 'dearest' in row:
      print(row['dearest'], end='', flush=True)
  return int(any('error' in row for row in results['rows']))


def show(path: pathlib.Path) -> int:
  """Prints the table of a file of results.

  Raises:
    OSError, ValueError: there is no such file, or it is something else.
  """
  try:
    print(table.markdown(json.loads(path.read_text())))
  except (ValueError, KeyError, TypeError) as e:
    raise ValueError(f'{str(path)!r} holds no results of this command') from e
  return 0


def main(argv: list[str] | None = None) -> int:
  """Returns the exit status; what cannot be done is one line."""
  started = time.monotonic()
  options = parse(argv)
  try:
    if options.markdown:
      return show(options.markdown)
    return run(options, started + options.minutes * 60)
  except (OSError, ValueError) as e:
    print(f'error: {e}', file=sys.stderr)
    return 1


if __name__ == '__main__':
  sys.exit(main())
