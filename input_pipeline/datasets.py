# Copyright 2026 The JAX Continual Prompting Authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Which data sets exist and how each is opened.

`config.dataset` is a row of `SPECS` (a TFDS builder, ours or the catalogue's)
or `npz:PATH`, a file of arrays. A TFDS image data set is added by one row.
"""

import dataclasses
import pathlib
import shlex

import numpy as np

from input_pipeline import npz_file
from input_pipeline import sources

# Known to the original code, not read here yet.
_NOT_YET = ('5datasets', 'core50', 'imagenet_r')


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
  """A TFDS data set of labelled pictures.

  Attributes:
    builder: its name in TFDS, or 'digits', our own.
    num_classes: number of labels.
    mean: per channel over the training split, in [0, 1].
    std: likewise.
    train_split: TFDS split.
    test_split: TFDS split.
  """

  builder: str
  num_classes: int
  mean: tuple[float, float, float]
  std: tuple[float, float, float]
  train_split: str = 'train'
  test_split: str = 'test'


SPECS = {
    'cifar10': DatasetSpec(
        'cifar10', 10, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    'cifar100': DatasetSpec(
        'cifar100', 100, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    'digits': DatasetSpec('digits', 10, (0.3055,) * 3, (0.3759,) * 3),
    'fashion_mnist': DatasetSpec(
        'fashion_mnist', 10, (0.2860,) * 3, (0.3530,) * 3),
    'mnist': DatasetSpec('mnist', 10, (0.1307,) * 3, (0.3081,) * 3),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
  """An opened data set.

  Attributes:
    name: as configured.
    train: a source: `len()`, `image(i)` uint8 [h, w, 3], `labels` int32 [N].
    test: likewise.
    num_classes: labels run from 0 to this, exclusive.
    class_names: one per label.
    mean: float32 [3], in [0, 1], of the training pictures.
    std: float32 [3].
  """

  name: str
  train: sources.ArraySource | sources.TfdsSource
  test: sources.ArraySource | sources.TfdsSource
  num_classes: int
  class_names: tuple[str, ...]
  mean: np.ndarray
  std: np.ndarray


def load(config):
  """Opens `config.dataset`; a TFDS data set is fetched where it is missing.

  Args:
    config: reads `dataset` and `data_dir` ('' is TFDS's own default).

  Returns:
    A `Dataset`.

  Raises:
    ValueError: unknown name or bad content, in one line.
    FileNotFoundError: the data are not there and cannot be fetched.
  """
  name = config.dataset
  if name.startswith('npz:'):
    return _load_npz(name)
  if name in SPECS:
    return _load_tfds(name, SPECS[name], config.data_dir)
  have = f'have {", ".join(SPECS)} and npz:PATH'
  if name in _NOT_YET:
    raise ValueError(f'data set {name!r} is not supported yet, {have}')
  raise ValueError(f'unknown data set {name!r}, {have}')


def _load_tfds(name, spec, data_dir):
  builder = _prepared_builder(spec.builder, data_dir)
  return Dataset(
      name=name,
      train=sources.TfdsSource(builder, spec.train_split),
      test=sources.TfdsSource(builder, spec.test_split),
      num_classes=spec.num_classes,
      class_names=tuple(builder.info.features['label'].names),
      mean=np.float32(spec.mean), std=np.float32(spec.std))


def _prepared_builder(name, data_dir):
  """A TFDS builder whose files are there, in a format with random access."""
  builder = _builder(name, data_dir)
  if not builder.is_prepared():
    builder = _prepare(name, data_dir)
  formats = {f.value for f in builder.info.available_file_formats()}
  if 'array_record' not in formats:
    raise ValueError(
        f'{name} in {builder.data_dir} is stored as {", ".join(formats)}, '
        'which has no random access; set data_dir to another folder, empty or '
        f'filled by: {_command(name, "FOLDER")}')
  return builder


def _prepare(name, data_dir):
  """Writes the data set; TFDS does that beside and renames when complete."""
  builder = _builder(name, data_dir, file_format='array_record')
  try:
    _check_reachable(builder)
    builder.download_and_prepare()
  except Exception as e:  # pylint: disable=broad-exception-caught
    # Another process of this machine may have been quicker.
    builder = _builder(name, data_dir)
    if not builder.is_prepared():
      raise FileNotFoundError(_not_there(name, builder.data_dir, e)) from e
  return builder


def _builder(name, data_dir, **kwargs):
  # TensorFlow writes and lists files here; it must not take the accelerator.
  import tensorflow as tf  # pylint: disable=g-import-not-at-top
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top
  for kind in ('GPU', 'TPU'):
    tf.config.set_visible_devices([], kind)
  if name == 'digits':
    from input_pipeline import digits  # pylint: disable=g-import-not-at-top
    tfds.disable_progress_bar()  # It takes a second, and nothing is fetched.
    make = digits.Digits
  else:
    make = tfds.builder_cls(name)
  return make(data_dir=data_dir or None, **kwargs)


def _check_reachable(builder):
  """Fails at once without a network: TFDS itself retries for minutes."""
  import requests  # pylint: disable=g-import-not-at-top
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top
  downloads = pathlib.Path(builder.data_dir).parents[1] / 'downloads'
  for url, info in (builder.url_infos or {}).items():
    # Where TFDS looks: its own files, new and old, and those fetched by hand.
    own = tfds.core.download.resource.get_dl_fname(url, info.checksum)
    places = (downloads / builder.name / own, downloads / own,
              downloads / 'manual' / (info.filename or own))
    if any(place.is_file() for place in places):
      continue
    try:
      requests.head(url, timeout=20)
    except requests.RequestException as e:
      raise ConnectionError(f'{url} cannot be reached') from e


def _not_there(name, folder, error):
  """One line: what is missing, why, and how to get it."""
  reason = ' '.join(f'{type(error).__name__}: {error}'.split())[:150]
  line = f'{name} is not in {folder} and cannot be prepared there ({reason})'
  if name == 'digits':
    return f'{line}; set data_dir to a folder that can be written'
  root = pathlib.Path(folder).parents[1]
  return f'{line}; where there is a network, run: {_command(name, root)}'


def _command(name, root):
  code = ('import tensorflow_datasets as tfds; '
          f'tfds.builder("{name}", data_dir="{root}", '
          'file_format="array_record").download_and_prepare()')
  return f'python -c {shlex.quote(code)}'


def _load_npz(name):
  arrays = npz_file.read(pathlib.Path(name.removeprefix('npz:')).expanduser())
  train, test = (
      sources.ArraySource(arrays[f'{split}_images'], arrays[f'{split}_labels'])
      for split in ('train', 'test'))
  mean, std = npz_file.statistics(arrays['train_images'])
  names = tuple(map(str, arrays['class_names']))
  return Dataset(name, train, test, len(names), names, mean, std)
