# SPDX-License-Identifier: Apache-2.0
"""Pictures in folders: `folder:PATH`.

    PATH/CLASS/x.jpg                 divided 80 / 20 by a fixed seed
    PATH/train/CLASS/x.jpg           beside PATH/test/CLASS/y.jpg
    PATH/DOMAIN/CLASS/x.jpg          with domains, likewise with or without
    PATH/train/DOMAIN/CLASS/x.jpg    train/ and test/

Classes are numbered in the order of their sorted names. Hidden files are
ignored everywhere, and so is what lies beside class folders but is no picture;
in a class folder there must be pictures (.jpg, .jpeg, .png) only.
"""

from collections.abc import Iterable, Mapping, Sequence
import itertools
import os
import pathlib
import zlib

import numpy as np

from promptcl.input_pipeline.read import base
from promptcl.input_pipeline.read import file_lists
from promptcl.input_pipeline.read import sources

_SUFFIXES = ('.jpg', '.jpeg', '.png')
_SPLITS = ('train', 'test')
_TEST_SHARE = 0.2


def load(name: str, split_files: Sequence[str] = ()) -> base.Dataset:
  """Opens a folder of pictures; none of them is read yet.

  Args:
    name: 'folder:PATH'.
    split_files: (train list, test list), see `file_lists`; (): go by folders.

  Returns:
    A `base.Dataset`. It has domains if the training pictures do; test pictures
    may have the same, others altogether, or none.

  Raises:
    FileNotFoundError: no such folder, list, or listed picture.
    ValueError: the folder is not laid out as above.
  """
  root = pathlib.Path(os.path.expanduser(name.removeprefix('folder:')))
  if not root.is_dir():
    raise FileNotFoundError(f'no folder {root} (dataset={name!r})')
  if split_files:
    parts = dict(zip(map(str, split_files),
                     file_lists.read(root, split_files), strict=True))
  elif _is_divided(root):
    parts = {f'{split}/': _rows(root / split) for split in _SPLITS}
  else:
    parts = dict(zip(_SPLITS, _divide(root, _rows(root)), strict=True))
  return _dataset(name, root, parts)


def _dataset(name: str, root: pathlib.Path,
             parts: Mapping[str, Sequence[file_lists.Row]]) -> base.Dataset:
  """From {what the split is called: rows (domain or '', class, path)}."""
  domains, classes = ([{row[column] for row in rows}
                       for rows in parts.values()] for column in (0, 1))
  _check_same(root, list(parts), 'class', classes)
  has_domains = domains[0] != {''}
  if has_domains and domains[1] != {''} and domains[0] & domains[1]:
    _check_same(root, list(parts), 'domain', domains)
  if not has_domains and domains[1] != {''}:
    raise ValueError(f'{root} has domain folders for the test only')
  class_names = tuple(sorted(classes[0]))
  domain_names = tuple(sorted(set.union(*domains) - {''})) or None
  train, test = (_source(rows, class_names, domain_names)
                 for rows in parts.values())
  return base.Dataset(name=name, train=train, test=test,
                      num_classes=len(class_names), class_names=class_names,
                      domain_names=domain_names)


def _source(rows: Sequence[file_lists.Row], class_names: Sequence[str],
            domain_names: Sequence[str] | None) -> sources.FileSource:
  domains, classes, paths = zip(*rows, strict=True)
  class_numbers = {c: i for i, c in enumerate(class_names)}
  labels = [class_numbers[c] for c in classes]
  if domains[0]:
    domain_numbers = {d: i for i, d in enumerate(domain_names)}
    domains = [domain_numbers[d] for d in domains]
    return sources.FileSource(paths, labels, domains)
  return sources.FileSource(paths, labels)


def _check_same(root: pathlib.Path, parts: Iterable[str], what: str,
                sets: Sequence[set[str]]) -> None:
  """Both splits must hold the same classes or domains."""
  for (have, one), (lack, other) in itertools.permutations(
      zip(parts, sets, strict=True)):
    missing = sorted(one - other)
    if missing:
      raise ValueError(f'{root} has pictures of the {what} {missing[0]!r} in '
                       f'{have}, but none in {lack}')


def _is_divided(root: pathlib.Path) -> bool:
  """Whether there are train/ and test/ levels."""
  folders, _ = _entries(root)
  # A class may have these names, too: then there are pictures in its folder.
  levels = [split for split in _SPLITS
            if split in folders and _entries(root / split)[0]]
  if not levels:
    return False
  if len(levels) == 1:
    other, = set(_SPLITS) - set(levels)
    raise ValueError(f'{root} has {levels[0]}/ but no folder {other}/ of class '
                     'folders')
  others = [folder for folder in folders if folder not in _SPLITS]
  if others:
    raise ValueError(f'{root} has train/ and test/ and also {others[0]}/; move '
                     'that elsewhere')
  return True


def _divide(root: pathlib.Path, rows: Sequence[file_lists.Row]
            ) -> tuple[list[file_lists.Row], list[file_lists.Row]]:
  """Train and test rows: a fifth of each class (of a domain) is the test.

  Which fifth depends on the names of the class folder and its pictures alone.
  """
  parts = [], []
  for key, group in itertools.groupby(rows, key=lambda row: row[:2]):
    group = list(group)
    if len(group) < 2:
      raise ValueError(f'{root.joinpath(*key)} holds one picture, too few to '
                       'divide into training and test')
    rng = np.random.default_rng(zlib.crc32('/'.join(key).encode()))
    num_test = max(1, round(_TEST_SHARE * len(group)))
    chosen = set(rng.permutation(len(group))[:num_test].tolist())
    for place, row in enumerate(group):
      parts[place in chosen].append(row)
  return parts


def _rows(level: pathlib.Path) -> list[file_lists.Row]:
  """Sorted (domain or '', class, path) in a folder of classes or domains."""
  folders = _folders(level)
  # One folder of nothing but folders shows that all are meant as domains.
  if not any(_entries(level / folder)[0] and not _loose_pictures(level / folder)
             for folder in folders):
    return [('', folder, path) for folder in folders
            for path in _pictures(level / folder)]
  classes = {domain: _folders(level / domain) for domain in folders}
  everywhere = sorted(set().union(*classes.values()))
  for domain, label in itertools.product(folders, everywhere):
    if label not in classes[domain]:
      other = next(d for d in folders if label in classes[d])
      raise ValueError(f'{level / domain} has no class folder {label!r}, which '
                       f'{level / other} has')
  return [(domain, label, path)
          for domain, label in itertools.product(folders, everywhere)
          for path in _pictures(level / domain / label)]


def _folders(level: pathlib.Path) -> list[str]:
  """Names of the class or domain folders."""
  loose = _loose_pictures(level)
  if loose:
    raise ValueError(f'{level / loose[0]} lies outside a class folder; move it '
                     'into one')
  folders, _ = _entries(level)
  if not folders:
    raise ValueError(f'{level} holds no class folders')
  return folders


def _pictures(folder: pathlib.Path) -> list[str]:
  """Sorted paths of a class folder, as strings."""
  folders, files = _entries(folder)
  if folders:
    raise ValueError(f'{folder / folders[0]} is a folder within a class '
                     'folder, which must hold pictures only; move it elsewhere')
  strange = [name for name in files if not _is_picture(name)]
  if strange:
    raise ValueError(f'{folder / strange[0]} in a class folder is no picture '
                     f'({", ".join(_SUFFIXES)}); move it elsewhere')
  if not files:
    raise ValueError(f'{folder} holds no pictures')
  return [str(folder / name) for name in files]


def _loose_pictures(folder: pathlib.Path) -> list[str]:
  return [name for name in _entries(folder)[1] if _is_picture(name)]


def _is_picture(name: str) -> bool:
  return name.lower().endswith(_SUFFIXES)


def _entries(folder: pathlib.Path) -> tuple[list[str], list[str]]:
  """Sorted names of the folders and of the files in it, hidden ones aside."""
  with os.scandir(folder) as entries:
    shown = [(e.name, e.is_dir()) for e in entries if e.name[0] != '.']
  return (sorted(name for name, is_folder in shown if is_folder),
          sorted(name for name, is_folder in shown if not is_folder))
