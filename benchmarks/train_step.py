# SPDX-License-Identifier: Apache-2.0
"""Speed, memory and FLOPs of the compiled train and eval steps.

  python benchmarks/train_step.py --output benchmark.json

runs the CIFAR-100 recipes at ViT-B/16, 224 px, 16 images per device, with
random weights and images.  Each row is a process of its own
(`measure.py`), so rows do not share memory or compilations, and a row that does
not fit into memory costs only itself.  README.md explains the columns.
"""

import argparse
from collections.abc import Iterator
import json
import os
import pathlib
import platform
import subprocess
import sys
from typing import Any

Case = dict[str, Any]  # what a row was asked for, and its figures
ROOT = pathlib.Path(__file__).parents[1]
RECIPES = ('cifar100_l2p', 'cifar100_dualprompt', 'convprompt', 'pgt')
SCOPES = ('all', 'trainable')
DTYPES = ('float32', 'bfloat16')
PHASES = ('train', 'query', 'eval')
ALL_PHASES = (*PHASES, 'sentences')
# Key of a row, title, divisor.
COLUMNS = (
    ('images_per_second', 'images/s', 1),
    ('seconds_per_step', 's/step', 1),
    ('cpu_seconds_per_step', 'CPU s/step', 1),
    ('compile_seconds', 'compile s', 1),
    ('peak_bytes', 'peak MiB', 2**20),
    ('temp_bytes', 'temp MiB', 2**20),
    ('flops_per_image', 'GFLOP/img', 1e9),
)
QUICK = dict(model='testing', image_size=16, batch=2, steps=1,
             recipes=RECIPES[:1], scopes=SCOPES[1:], dtypes=DTYPES[:1])


def parse(argv: list[str] | None) -> argparse.Namespace:
  """The command line; `--quick` replaces all sizes and choices."""
  parser = argparse.ArgumentParser(
      description=__doc__.split('\n')[0],
      formatter_class=argparse.ArgumentDefaultsHelpFormatter)
  add = parser.add_argument
  add('--model', default='ViT-B_16',
      help='a name of models/networks/vit.py or models/networks/clip.py')
  add('--image_size', type=int, default=224, help='pixels')
  add('--batch', type=int, default=16, help='images per device')
  add('--steps', type=int, default=10, help='timed steps')
  add('--recipes', nargs='+', default=RECIPES, metavar='NAME',
      help='files of configs/, those of methods with :STREAM')
  add('--scopes', nargs='+', default=SCOPES, choices=SCOPES,
      help='values of grad_clip_scope for the train step')
  add('--dtypes', nargs='+', default=DTYPES, choices=DTYPES)
  add('--phases', nargs='+', default=PHASES, choices=ALL_PHASES,
      help='query: features that evaluation computes once a run; sentences: '
      'class vectors, of recipes with head=sentences, once an evaluation')
  add('--output', type=pathlib.Path, help='JSON file to write')
  add('--quick', action='store_true', help='tiny model, one recipe and scope')
  options = parser.parse_args(argv)
  if options.quick:
    vars(options).update(QUICK)
  if min(options.steps, options.batch, options.image_size) < 1:
    parser.error('--steps, --batch and --image_size must be positive')
  return options


def cases(options: argparse.Namespace) -> Iterator[Case]:
  """What to measure, in the order of the rows.

  Only training depends on the scope, so the other phases come once.
  """
  sizes = {name: getattr(options, name)
           for name in ('model', 'image_size', 'batch', 'steps')}
  for recipe in options.recipes:
    for dtype in options.dtypes:
      for phase in options.phases:
        for scope in options.scopes if phase == 'train' else ('trainable',):
          yield dict(recipe=recipe, phase=phase, scope=scope, dtype=dtype,
                     **sizes)


def run(case: Case) -> Case:
  """The row of a case, or the case with `error` where it fails."""
  done = subprocess.run(
      [sys.executable, '-m', 'benchmarks.measure', json.dumps(case)],
      cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True,
      check=False)
  if done.returncode:
    lines = done.stderr.strip().splitlines() or [f'status {done.returncode}']
    return dict(case, error=lines[-1])
  return json.loads(done.stdout.splitlines()[-1])


def ratios(row: Case, first: Case) -> dict[str, float]:
  """Every column of a row divided by that of `first`, where both have it."""
  return {key: row[key] / first[key] for key, _, _ in COLUMNS
          if row.get(key) is not None and first.get(key)}


def line(row: Case) -> str:
  """A row for people: figures, each with its ratio to the first row."""
  scope = row['scope'] if row['phase'] == 'train' else '-'
  start = (f'{row["recipe"]:<20}{row["phase"]:<10}{scope:<10}'
           f'{row["dtype"]:<9}')
  if 'error' in row:
    return f'{start} failed: {row["error"]}'
  cells = []
  for key, _, divisor in COLUMNS:
    value, ratio = row[key], row['ratios'].get(key)
    cells.append('-' if value is None else f'{value / divisor:.4g}')
    cells.append('' if ratio is None else f'x{ratio:.2f}')
  return start + ''.join(
      f'{value:>10}{ratio:>7}' for value, ratio in zip(
          cells[::2], cells[1::2], strict=True))


def header() -> str:
  """Titles over the rows of `line`."""
  titles = ''.join(f'{title:>10}{"":7}' for _, title, _ in COLUMNS)
  return (f'{"recipe":<20}{"step":<10}{"scope":<10}{"dtype":<9}'
          f'{titles.rstrip()}')


def main(argv: list[str] | None = None) -> int:
  """Measures, prints and writes all rows; returns the exit status."""
  options = parse(argv)
  print(header(), flush=True)
  rows, measured = [], []
  for case in cases(options):
    row = run(case)
    rows.append(row)
    if 'error' not in row:
      measured.append(row)
      row['ratios'] = ratios(row, measured[0])
    print(line(row), flush=True)
    if options.output:  # after each row: a full table takes a while
      options.output.write_text(json.dumps(dict(
          machine=platform.platform(), processor=platform.machine(),
          cpu_count=os.cpu_count(), rows=rows), indent=1))
  if measured:
    print('{num_devices} x {device}, jax {jax}, {batch} images per device, '
          '{model} at {image_size} px; peak memory of the {peak_of}; x: '
          'relative to the first measured row'.format(**measured[0]))
  return 0 if len(measured) == len(rows) else 1


if __name__ == '__main__':
  sys.exit(main())
