# SPDX-License-Identifier: Apache-2.0
"""Checks that recipes and runs are what they were; writes them anew if asked.

  python -m tests.golden                       # short runs: counts as kept?
  python -m tests.golden --write               # texts of recipes and presets
  python -m tests.golden --write --counts      # counts of the runs, too
  python -m tests.golden --against REVISION    # both revisions, bit for bit

`--against` runs REVISION of this repository and the present files on the same
machine, and compares final parameters, optimizer and memory, all events and the
counts; `--added TAG` leaves out events whose tag begins so, which are new.
Names of runs may follow; without any, all are made.  The exit status is 0 if
nothing differs.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

from tests.golden import recipes
from tests.golden import runs
from tests.helpers import environment
from tests.torture import comparison

_PROCESSOR = runs.COUNTS / 'PROCESSOR'


def write_recipes() -> None:
  """Writes the text of each recipe and preset; removes those of none."""
  texts = recipes.texts()
  for path in recipes.written():
    if path not in texts:
      (recipes.FOLDER / path).unlink()
  for path, text in texts.items():
    (recipes.FOLDER / path).parent.mkdir(exist_ok=True)
    (recipes.FOLDER / path).write_text(text)


def check_counts(folder: pathlib.Path, names: list[str], *, write: bool
                 ) -> bool:
  """Makes runs; whether their counts are those that are kept, or keeps them."""
  same_kind = (_PROCESSOR.is_file()
               and _PROCESSOR.read_text().strip() == environment.processor())
  if write:
    runs.COUNTS.mkdir(exist_ok=True)
    _PROCESSOR.write_text(f'{environment.processor()}\n')
  elif not same_kind:
    print(f'counts are of another processor than {environment.processor()}: '
          'a few images may differ')
  good = True
  bench = runs.Bench(folder, {'now': environment.ROOT})
  for name, workdirs in bench.run(names):
    found = runs.counts(workdirs['now'])
    if write:
      (runs.COUNTS / f'{name}.csv').write_text(found)
    wrong = '' if write else runs.difference(
        runs.kept(name), found, share=0.0 if same_kind else 0.05)
    print(f'{name}: {wrong or ("written" if write else "as kept")}', flush=True)
    good = good and not wrong
  return good


def check_against(folder: pathlib.Path, names: list[str], revision: str,
                  added: tuple[str, ...]) -> bool:
  """Makes runs by a revision and by the present files; whether all agree."""
  then = folder / 'source'
  then.mkdir()
  archive = subprocess.run(
      ['git', 'archive', '--format=tar', revision], cwd=environment.ROOT,
      check=True, stdout=subprocess.PIPE).stdout
  subprocess.run(['tar', '--extract'], cwd=then, input=archive, check=True)
  good = True
  bench = runs.Bench(folder, {'then': then, 'now': environment.ROOT})
  for name, workdirs in bench.run(names):
    wrong = comparison.outcome(workdirs['then'], workdirs['now'], added)
    print(f'{name}: {wrong or "identical"}', flush=True)
    good = good and not wrong
  return good


def main(arguments: list[str] | None = None) -> int:
  parser = argparse.ArgumentParser(
      prog='python -m tests.golden', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('runs', nargs='*', metavar='RUN',
                      help=', '.join(runs.RUNS))
  parser.add_argument('--write', action='store_true')
  parser.add_argument('--counts', action='store_true')
  parser.add_argument('--against', metavar='REVISION')
  parser.add_argument('--added', action='append', default=[], metavar='TAG',
                      help='new events, not in REVISION: their tag begins so')
  options = parser.parse_args(arguments)
  if unknown := set(options.runs) - runs.RUNS.keys():
    parser.error(f'no such run: {", ".join(sorted(unknown))}')
  names, started = options.runs or list(runs.RUNS), time.monotonic()
  if options.write:
    write_recipes()
    if not options.counts:
      return 0
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    try:
      good = (check_against(folder, names, options.against,
                            tuple(options.added)) if options.against
              else check_counts(folder, names, write=options.write))
    except (RuntimeError, subprocess.CalledProcessError) as error:
      print(f'error: {error}', file=sys.stderr)  # below what git or a run told
      return 1
  verdict = 'written' if options.write else (
      'nothing differs' if good else 'NOT the same')
  print(f'{len(names)} runs, {time.monotonic() - started:.0f} s: {verdict}')
  return 0 if good else 1


if __name__ == '__main__':
  environment.set_up(num_devices=1)
  sys.exit(main())
