# SPDX-License-Identifier: Apache-2.0
"""How each data set is opened.

`config.dataset` is one of `NAMES`, `npz:PATH` (a file of arrays), `folder:PATH`
(pictures in folders), or several of these with commas between: a sequence of
data sets.
"""

from collections.abc import Sequence
import os
import pathlib

import numpy as np

from promptcl.input_pipeline.read import base
from promptcl.input_pipeline.read import catalogue
from promptcl.input_pipeline.read import digits
from promptcl.input_pipeline.read import folder
from promptcl.input_pipeline.read import moments
from promptcl.input_pipeline.read import npz_file
from promptcl.input_pipeline.read import sources

Dataset = base.Dataset
SPECS = catalogue.SPECS
# Those of TFDS's catalogue and the one that scikit-learn brings.
NAMES = tuple(sorted((*SPECS, digits.NAME)))
# In the order of google-research/l2p; PyTorch ports begin with SVHN.
SEQUENCES = {
    '5datasets': 'cifar10,mnist,svhn_cropped,notmnist,fashion_mnist',
}


def load(config: base.Settings, *, fetch: bool = True) -> base.Dataset:
  """Opens `config.dataset`; a TFDS data set is fetched where it is missing.

  Args:
    config: reads `dataset`, `data_dir` ('' is TFDS's own default),
      `manual_dir` (archives fetched by hand) and `split_files` (of a folder).
    fetch: whether missing data are downloaded and prepared.

  Returns:
    A `Dataset`.

  Raises:
    ValueError: unknown name or bad content, in one line.
    FileNotFoundError: the data are not there and cannot be fetched.
  """
  names = members(config.dataset)
  num_folders = sum(name.startswith('folder:') for name in names)
  if config.split_files and num_folders != 1:
    raise ValueError('split_files divides the pictures of one folder:PATH, but '
                     f'dataset={config.dataset!r} has {num_folders} of them')
  opened = [_load_one(name, config, fetch) for name in names]
  return opened[0] if len(opened) == 1 else _sequence(config.dataset, opened)


def members(name: str) -> tuple[str, ...]:
  """The names of the data sets that a sequence consists of, or of the one.

  Raises:
    ValueError: one is empty or comes twice.
  """
  names = tuple(member.strip() for part in name.split(',')
                for member in SEQUENCES.get(part.strip(), part).split(','))
  if '' in names or len(set(names)) < len(names):
    raise ValueError(f'dataset={name!r} must name every data set once, with '
                     'commas between')
  for kind in ('npz:', 'folder:'):
    if kind in names:
      raise ValueError(f'dataset={name!r} lacks the path after {kind}')
  return names


def _load_one(name: str, config: base.Settings, fetch: bool) -> base.Dataset:
  if name.startswith('npz:'):
    return _load_npz(name)
  if name.startswith('folder:'):
    return folder.load(name, config.split_files)
  if name == digits.NAME:
    return digits.load()
  if name in SPECS:
    return catalogue.load(name, config, fetch=fetch)
  raise ValueError(
      f'unknown data set {name!r}, have {", ".join((*NAMES, *SEQUENCES))}, '
      'npz:PATH and folder:PATH')


def _load_npz(name: str) -> base.Dataset:
  arrays = npz_file.read(pathlib.Path(
      os.path.expanduser(name.removeprefix('npz:'))))
  train, test = (
      sources.ArraySource(arrays[f'{split}_images'], arrays[f'{split}_labels'],
                          arrays.get(f'{split}_domains'))
      for split in ('train', 'test'))
  mean, std = moments.of_array(arrays['train_images'])
  names, domain_names = (
      tuple(map(str, arrays[key])) if key in arrays else None
      for key in ('class_names', 'domain_names'))
  return Dataset(name=name, train=train, test=test, num_classes=len(names),
                 class_names=names, mean=mean, std=std,
                 domain_names=domain_names)


def _sequence(name: str, opened: Sequence[base.Dataset]) -> base.Dataset:
  """One data set out of several, with labels that follow on each other.

  Domains within the members are not kept.
  """
  starts = np.cumsum([0, *(d.num_classes for d in opened)]).tolist()
  train, test = (
      sources.JoinedSource([getattr(d, split) for d in opened],
                           offsets=starts[:-1]) for split in ('train', 'test'))
  return Dataset(
      name=name, train=train, test=test, num_classes=starts[-1],
      class_names=tuple(f'{_short(d.name)}/{c}'
                        for d in opened for c in d.class_names),
      groups=tuple(tuple(range(start, start + d.num_classes))
                   for start, d in zip(starts, opened, strict=False)),
      members=tuple(opened),
      notes=tuple(f'{d.name}: {n}' for d in opened for n in d.notes))


def _short(name: str) -> str:
  """'mnist' for 'mnist' and for 'npz:/data/mnist.npz'."""
  _, path_given, path = name.partition(':')
  return pathlib.Path(path).stem if path_given else name
