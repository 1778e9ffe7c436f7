# SPDX-License-Identifier: Apache-2.0
"""Divisions by lists of files, such as those of CODA-Prompt for ImageNet-R.

A list is a text file with a path per line, perhaps followed by a number, or in
YAML's layout:

    data:
    - data/imagenet-r/n01443537/art_0.jpg
    targets:
    - 1

Paths end in CLASS/FILE or DOMAIN/CLASS/FILE below the data set's folder; what
stands before is cut off. The class is the folder, numbers are not read.
"""

from collections.abc import Iterable, Iterator, Sequence
import os
import pathlib

# What the end of a path is, by its number of parts; tried in this order.
Row = tuple[str, str, str]  # domain or '', class, path
_ENDS = {3: 'DOMAIN/CLASS/FILE', 2: 'CLASS/FILE'}


def read(root: pathlib.Path, split_files: Sequence[str]) -> list[list[Row]]:
  """Rows of the training and the test list.

  Args:
    root: pathlib.Path of the pictures.
    split_files: paths of the two lists.

  Returns:
    [train, test]: lists of (domain or '', class, path), sorted.

  Raises:
    FileNotFoundError: a list or a picture that it names is not there.
    ValueError: a list is empty, of mixed depth, or shares a picture.
  """
  if len(split_files) != 2:
    raise ValueError('split_files must be two lists, of training and of test '
                     f'pictures, has {len(split_files)}')
  train, test = (_rows(root, pathlib.Path(os.path.expanduser(path)))
                 for path in split_files)
  both = {row[2] for row in train} & {row[2] for row in test}
  if both:
    raise ValueError(f'{len(both)} pictures are in both {split_files[0]} and '
                     f'{split_files[1]}, for instance {min(both)}')
  return [train, test]


def _rows(root: pathlib.Path, path: pathlib.Path) -> list[Row]:
  entries = _entries(path)
  tails = _tails(root, path, entries)
  missing = sorted(_missing(root, tails))
  if missing:
    raise FileNotFoundError(f'{path} names {len(missing)} pictures that are '
                            f'not there, the first is {root / missing[0]}')
  rows = {('/'.join(parts[:-2]), parts[-2], str(root.joinpath(*parts)))
          for parts in tails}
  if len(rows) < len(entries):
    raise ValueError(f'{path} names {len(entries) - len(rows)} pictures twice')
  return sorted(rows)


def _entries(path: pathlib.Path) -> list[tuple[str, ...]]:
  """The paths of a list, as tuples of folder and file names."""
  try:
    lines = path.read_text().splitlines()
  except FileNotFoundError as e:
    raise FileNotFoundError(f'no file {path} (split_files)') from e
  except UnicodeDecodeError as e:
    raise ValueError(f'{path} is no text file (split_files)') from e
  lines = [line.strip() for line in lines]
  lines = [line for line in lines if line and line[0] != '#']
  if lines and lines[0] in ('data:', 'targets:'):
    lines = _yaml_data(lines)
  if not lines:
    raise ValueError(f'{path} names no pictures (split_files)')
  return [pathlib.PurePosixPath(_without_number(line)).parts for line in lines]


def _yaml_data(lines: Iterable[str]) -> list[str]:
  """The items under 'data:'."""
  items, reading = [], False
  for line in lines:
    if line.startswith('- '):
      if reading:
        items.append(line[2:].strip().strip('\'"'))
    else:
      reading = line == 'data:'
  return items


def _without_number(line: str) -> str:
  head, _, last = line.rpartition(' ')
  return head.rstrip() if head and last.isdigit() else line


def _tails(root: pathlib.Path, path: pathlib.Path,
           entries: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
  """The ends of the paths, all of one depth, that lie under the folder."""
  depth = next((depth for depth in _ENDS if len(entries[0]) >= depth
                and root.joinpath(*entries[0][-depth:]).is_file()), None)
  if depth is None:
    raise FileNotFoundError(
        f'{path} begins with {"/".join(entries[0])}, of which no end '
        f'{" or ".join(_ENDS.values())} is in {root}')
  tails = [entry[-depth:] for entry in entries]
  for entry, tail in zip(entries, tails, strict=True):
    if len(tail) < depth or '..' in tail or tail[0] == '/':
      raise ValueError(f'{path} names {"/".join(entry)}, which does not end in '
                       f'{_ENDS[depth]} as its first line does')
  return tails


def _missing(root: pathlib.Path, tails: Iterable[tuple[str, ...]]
             ) -> Iterator[str]:
  """Those that are not there; every folder is listed just once."""
  listed = {}
  for *folders, name in tails:
    folder = os.path.join(*folders)
    if folder not in listed:
      whole = root / folder
      listed[folder] = set(os.listdir(whole)) if whole.is_dir() else set()
    if name not in listed[folder]:
      yield os.path.join(folder, name)
