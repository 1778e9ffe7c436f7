# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.parity FIXTURE.npz [...]`.

Prints a line per recorded array and a summary; exit status 1 when anything
failed or a file could not be run.
"""

import argparse
import os
import sys

from tests.parity import fixture as fixture_lib


def main(arguments: list[str] | None = None) -> int:
  """Runs the files; returns the exit status."""
  parser = argparse.ArgumentParser(prog='python -m tests.parity',
                                   description=__doc__.split('\n\n')[1])
  parser.add_argument('files', nargs='+', metavar='FIXTURE.npz')
  parser.add_argument('--brief', action='store_true',
                      help='print failures and summaries only')
  options = parser.parse_args(arguments)
  fixtures, summary, passed = [], [], True
  for path in options.files:
    try:
      fixtures.append(fixture_lib.Fixture(path))
    except fixture_lib.Unsupported as e:
      summary.append(f'ERROR {e}')
  _set_devices(max((f.devices for f in fixtures), default=1))
  from tests.parity import kinds  # pylint: disable=g-import-not-at-top

  for fixture in fixtures:
    report = kinds.run(fixture, brief=options.brief)
    print(report.summary() + '\n', flush=True)
    summary.append(report.summary())
    passed &= report.passed
  passed &= len(fixtures) == len(options.files)
  print('== all files', *summary, sep='\n')
  print('ALL PASS' if passed else 'NOT ALL PASS')
  return 0 if passed else 1


def _set_devices(count: int) -> None:
  """CPU devices for the file that needs most; before JAX is imported."""
  os.environ.setdefault('JAX_PLATFORMS', 'cpu')
  flag = '--xla_force_host_platform_device_count'
  if flag not in os.environ.get('XLA_FLAGS', ''):
    os.environ['XLA_FLAGS'] = (
        f'{os.environ.get("XLA_FLAGS", "")} {flag}={count}')


if __name__ == '__main__':
  sys.exit(main())
