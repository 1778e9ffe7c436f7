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
"""A data set in one .npz file of arrays, for pictures of one's own."""

import lzma
import zipfile
import zlib

import numpy as np

_KEYS = ('train_images', 'train_labels', 'test_images', 'test_labels')
# What NumPy raises for a file that is no archive, is cut off or is pickled.
_UNREADABLE = (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile,
               zlib.error, lzma.LZMAError)


def read(path):
  """Reads and checks a file of pictures.

  Args:
    path: pathlib.Path of an .npz archive with `train_images`, `train_labels`,
      `test_images`, `test_labels` and, if labels have names, `class_names`.

  Returns:
    dict of these arrays: images uint8 [N, h, w, 1 or 3], labels of any integer
    type [N], names [C] (the numbers themselves where the file has none).

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no archive, or its arrays are not as above.
  """
  try:
    # Opened here: NumPy leaves a damaged file open.
    with open(path, 'rb') as f, np.load(f, allow_pickle=False) as file:
      arrays = {key: file[key] for key in (*_KEYS, 'class_names')
                if key in file}
  except FileNotFoundError as e:
    raise FileNotFoundError(f'no file {path} (dataset={"npz:" + str(path)!r})'
                            ) from e
  except _UNREADABLE as e:
    raise ValueError(f'{path} does not open as an .npz archive of plain arrays '
                     f'({type(e).__name__})') from e
  missing = [key for key in _KEYS if key not in arrays]
  if missing:
    raise ValueError(f'{path} lacks {", ".join(missing)}; needed are '
                     f'{", ".join(_KEYS)}')
  for split in ('train', 'test'):
    _check_split(path, split, arrays[f'{split}_images'],
                 arrays[f'{split}_labels'])
  labels = [arrays['train_labels'], arrays['test_labels']]
  arrays.setdefault('class_names', np.arange(1 + max(map(np.max, labels))))
  _check_labels(path, arrays)
  return arrays


def statistics(images):
  """Mean and standard deviation per channel.

  From histograms: exact, and without a float copy of the pictures.

  Args:
    images: uint8 [N, h, w, 1 or 3].

  Returns:
    (mean, std): float32 [3] each, for values in [0, 1].
  """
  counts = np.stack([np.bincount(channel.ravel(), minlength=256)
                     for channel in np.moveaxis(images, -1, 0)])
  share = counts / counts.sum(axis=1, keepdims=True)
  levels = np.arange(256) / 255
  mean = share @ levels
  std = np.sqrt(share @ levels**2 - mean**2)
  # A constant channel carries nothing; leave its scale alone.
  std[std < 1e-6] = 1
  return tuple(np.broadcast_to(np.float32(x), 3) for x in (mean, std))


def _check_split(path, split, images, labels):
  if (images.dtype != np.uint8 or images.ndim != 4
      or images.shape[-1] not in (1, 3) or 0 in images.shape):
    raise ValueError(
        f'{split}_images in {path} must be uint8 [N, height, width, 1 or 3] '
        f'and not empty, is {images.dtype} {list(images.shape)}')
  if labels.dtype.kind not in 'iu' or labels.shape != images.shape[:1]:
    raise ValueError(
        f'{split}_labels in {path} must be integers [{len(images)}], one per '
        f'image, is {labels.dtype} {list(labels.shape)}')


def _check_labels(path, arrays):
  if arrays['class_names'].ndim != 1:
    raise ValueError(f'class_names in {path} must be a list, has shape '
                     f'{list(arrays["class_names"].shape)}')
  num_classes = len(arrays['class_names'])
  for key in ('train_labels', 'test_labels'):
    low, high = arrays[key].min(), arrays[key].max()
    if low < 0 or high >= num_classes:
      raise ValueError(f'{key} in {path} run from {low} to {high}, must be '
                       f'within 0 to {num_classes - 1} ({num_classes} classes)')
