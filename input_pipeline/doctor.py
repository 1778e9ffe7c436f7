# SPDX-License-Identifier: Apache-2.0
"""Says whether a data set is complete and usable, and how to get the rest.

  python -m input_pipeline.doctor cifar100 --data_dir DIR
  python -m input_pipeline.doctor folder:DIR

Takes every name that `config.dataset` takes. Nothing is downloaded or written
unless --prepare is given. The exit status is 0 for a usable data set, else 1.
"""

import argparse
from collections.abc import Iterator, Sequence
import os
import sys
import types

from absl import logging
import numpy as np

from promptcl.input_pipeline.read import base
from promptcl.input_pipeline.read import datasets

# Up to so many classes are listed one by one.
_LISTED = 20
_SPLITS = ('train', 'test')
Finding = tuple[str, bool]  # a line, whether it is good news or none


def main(argv: Sequence[str] | None = None) -> int:
  """Prints the report; returns the exit status."""
  args = _parser().parse_args(argv)
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
  logging.set_verbosity(logging.ERROR)  # what matters is in the report
  config = types.SimpleNamespace(
      dataset=args.name, data_dir=args.data_dir, manual_dir=args.manual_dir,
      split_files=tuple(args.split_files))
  usable = True
  for line, good in examine(config, fetch=args.prepare, decode=args.decode):
    usable &= good
    print(line if good else f'PROBLEM {line}', flush=True)
  print(f'{args.name} is usable' if usable else f'{args.name} is NOT usable')
  return 0 if usable else 1


def examine(config: base.Settings, *, fetch: bool = False, decode: int = 100
            ) -> Iterator[Finding]:
  """Looks a data set over.

  Args:
    config: see `datasets.load`.
    fetch: whether missing data are downloaded and prepared.
    decode: so many images of each split, evenly spaced; 0 is all of them.

  Yields:
    (line, whether it is good news or none).
  """
  try:
    names = datasets.members(config.dataset)
    if len(names) == 1:
      yield from _examine_one(config, fetch, decode)
      return
  except ValueError as e:
    yield str(e), False
    return
  for name in names:
    is_folder = name.startswith('folder:')
    alone = {'dataset': name,
             'split_files': config.split_files if is_folder else ()}
    yield from _examine_one(types.SimpleNamespace(**vars(config) | alone),
                            fetch, decode)


def _examine_one(config: base.Settings, fetch: bool, decode: int
                 ) -> Iterator[Finding]:
  name = config.dataset
  try:
    dataset = datasets.load(config, fetch=fetch)
    yield (f'{name}: {dataset.num_classes} classes, {len(dataset.train)} '
           f'training and {len(dataset.test)} test images'), True
    yield from _counts(dataset)
    yield from _completeness(dataset)
    for split in _SPLITS:
      yield from _pictures(name, split, getattr(dataset, split), decode)
    yield from ((f'  {name}: {note}', True) for note in dataset.notes)
  except (ValueError, OSError) as e:
    yield f'{name}: {e}', False


def _counts(dataset: base.Dataset) -> Iterator[Finding]:
  """Images per class and per domain."""
  per_class = [_count(getattr(dataset, s).labels, dataset.num_classes)
               for s in _SPLITS]
  if dataset.num_classes <= _LISTED:
    yield from _table('class', dataset.class_names, per_class)
  for split, counts in zip(_SPLITS, per_class, strict=True):
    yield f'  {split} images per class: {_range(counts)}', True
    for label in np.flatnonzero(counts == 0)[:3]:
      yield (f'{dataset.name}: class {dataset.class_names[label]!r} has no '
             f'{split} images'), False
  if dataset.domain_names:
    num_domains = len(dataset.domain_names)
    per_domain = [_count(getattr(dataset, s).domains, num_domains)
                  for s in _SPLITS]
    yield from _table('domain', dataset.domain_names, per_domain)
    yield from _gaps(dataset)


def _gaps(dataset: base.Dataset) -> Iterator[Finding]:
  """Classes that some training domain lacks: worth knowing, but no fault."""
  train, width = dataset.train, dataset.num_classes
  pairs = _count(train.domains * width + train.labels,
                 len(dataset.domain_names) * width).reshape(-1, width)
  for domain in np.flatnonzero(pairs.any(axis=1)):
    missing = np.flatnonzero(pairs[domain] == 0)
    if missing.size:
      yield (f'  domain {dataset.domain_names[domain]} has no train images of '
             f'{missing.size} classes, such as '
             f'{dataset.class_names[missing[0]]}'), True


def _completeness(dataset: base.Dataset) -> Iterator[Finding]:
  """Against the published number of images."""
  spec = datasets.SPECS.get(dataset.name)
  if spec is None or spec.sizes is None:
    return
  for split, published in zip(_SPLITS, spec.sizes, strict=True):
    have = len(getattr(dataset, split))
    if have != published:
      yield (f'{dataset.name}: has {have} {split} images instead of '
             f'{published}; prepare it anew from a complete download'), False


def _pictures(name: str, split: str, source: base.Source, decode: int
              ) -> Iterator[Finding]:
  """Decodes some images, or all."""
  count = min(decode or len(source), len(source))
  sizes = []
  for row in np.linspace(0, len(source) - 1, count).round().astype(int):
    try:
      sizes.append(source.image(int(row)).shape[:2])
    except (ValueError, FileNotFoundError) as e:
      yield f'{name}: {e}', False
  if sizes:
    (h0, w0), (h1, w1) = np.min(sizes, axis=0), np.max(sizes, axis=0)
    extent = f'{h0} x {w0}'
    extent += '' if (h0, w0) == (h1, w1) else f' to {h1} x {w1}'
    yield (f'  {split}: {len(sizes)} of {len(source)} images decoded, {extent} '
           'pixels (height x width)'), True


def _count(numbers: np.ndarray, length: int) -> np.ndarray:
  return np.bincount(numbers, minlength=length)


def _range(counts: np.ndarray) -> str:
  low, high = counts.min(), counts.max()
  return str(low) if low == high else f'{low} to {high}'


def _table(what: str, names: Sequence[str], columns: Sequence[np.ndarray]
           ) -> Iterator[Finding]:
  width = max(map(len, (what, *names)))
  yield f'  {what:{width}} {"train":>7} {"test":>7}', True
  for name, train, test in zip(names, *columns, strict=True):
    yield f'  {name:{width}} {train:7d} {test:7d}', True


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
      prog='python -m input_pipeline.doctor',
      description=__doc__.partition('\n')[0])
  parser.add_argument('name', help='as config.dataset')
  parser.add_argument('--data_dir', default='', help='of TFDS')
  parser.add_argument('--manual_dir', default='',
                      help='holds archives that were fetched by hand')
  parser.add_argument('--split_files', nargs=2, default=(),
                      metavar=('TRAIN', 'TEST'), help='lists of a folder')
  parser.add_argument('--decode', type=int, default=100, metavar='N',
                      help='images of each split that are looked at; 0: all')
  parser.add_argument('--prepare', action='store_true',
                      help='download and write what is missing')
  return parser


if __name__ == '__main__':
  sys.exit(main())
