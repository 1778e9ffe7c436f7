# SPDX-License-Identifier: Apache-2.0
"""What `accelerator.py` found, as text and as Markdown."""

from collections.abc import Callable
from typing import Any

Row = dict[str, Any]


def _share(row: Row) -> str:
  share = row['share']
  return '-' if share is None else f'{share:.1%}'


def _divided(key: str, divisor: float) -> Callable[[Row], str]:
  """-> what shows `row[key] / divisor`, or that it is not known."""
  return lambda row: '-' if row[key] is None else f'{row[key] / divisor:.4g}'


# Title, what it shows of a measured row.
COLUMNS = (
    ('images/s', _divided('images_per_second', 1)),
    ('share', _share),
    ('GFLOP/img', _divided('product_flops_per_image', 1e9)),
    ('planned GiB', _divided('planned_bytes', 2**30)),
    ('held GiB', _divided('peak_bytes', 2**30)),
    ('compile s', _divided('compile_seconds', 1)),
    ('row s', _divided('wall_seconds', 1)),
)
_NAME, _CELL = 28, 13


def header() -> str:
  """Titles over the rows of `line`."""
  titles = ''.join(f'{title:>{_CELL}}' for title, _ in COLUMNS)
  return f'{"row":<{_NAME}}{titles}'


def line(row: Row) -> str:
  """A row for people."""
  if not (why := remark(row)):
    cells = (f'{show(row):>{_CELL}}' for _, show in COLUMNS)
    return f'{row["name"]:<{_NAME}}' + ''.join(cells)
  return f'{row["name"]:<{_NAME}} {why}'


def remark(row: Row) -> str:
  """What stands in place of a row's figures; '' where it has figures."""
  if 'error' in row:
    return f'failed: {row["error"]}'
  if 'skipped' in row:
    return f'skipped: {row["skipped"]}'
  return ceiling(row) if 'ceiling' in row else ''


def ceiling(row: Row) -> str:
  """What was reached, with its unit."""
  if row['ceiling'] == 'copy':
    return (f'{row["per_second"] / 1e9:.4g} GB/s read and written, '
            f'{row["size"] * 4 / 2**20:.4g} MiB')
  return (f'{row["per_second"] / 1e12:.4g} TFLOP/s, '
          f'{row["size"]} x {row["size"]}')


def made_on(results: Row) -> str:
  """Card, driver, versions, date, revision in one line."""
  versions = ', '.join(f'{name} {version or "of unknown version"}'
                       for name, version in results['versions'].items())
  driver = f', driver {results["driver"]}' if results['driver'] else ''
  revision = results['revision'] or 'unknown'
  return (
      f'{results["date"][:10]}, {results["num_devices"]} x {results["card"]}'
      f'{driver}, {results["platform_version"]}; {versions}, '
      f'Python {results["python"]}; revision {revision}')


def markdown(results: Row) -> str:
  """The table of a result file, for a page."""
  rows = results['rows']
  lines = [made_on(results), '', '| ceiling | measured |', '|---|---|']
  lines += [f'| {row["name"]} | {remark(row)} |'
            for row in rows if 'ceiling' in row]
  titles = ' | '.join(title for title, _ in COLUMNS)
  lines += ['', '| row | ' + titles + ' |', '|---' * (len(COLUMNS) + 1) + '|']
  for row in rows:
    if 'ceiling' not in row:
      cells = [remark(row)] + [''] * (len(COLUMNS) - 1) if remark(row) else [
          show(row) for _, show in COLUMNS]
      lines.append(f'| {row["name"]} | ' + ' | '.join(cells) + ' |')
  return '\n'.join(lines)
