# SPDX-License-Identifier: Apache-2.0
"""A data set in one .npz file of arrays, for pictures of one's own."""

import lzma
import pathlib
import zipfile
import zlib

import numpy as np

_KEYS = ('train_images', 'train_labels', 'test_images', 'test_labels')
_DOMAIN_KEYS = ('train_domains', 'test_domains')
_NAME_KEYS = ('class_names', 'domain_names')
# What NumPy raises for a file that is no archive, is cut off, damaged, locked
# or pickled.
_UNREADABLE = (ValueError, TypeError, OSError, EOFError, KeyError, RuntimeError,
               MemoryError, OverflowError, SyntaxError, zipfile.BadZipFile,
               zlib.error, lzma.LZMAError)


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Reads and checks a file of pictures.

  Args:
    path: pathlib.Path of an .npz archive with `train_images`, `train_labels`,
      `test_images`, `test_labels` and, if labels have names, `class_names`;
      if it has domains, also `train_domains`, `test_domains` and, if they have
      names, `domain_names`.

  Returns:
    dict of these arrays: images uint8 [N, h, w, 1 or 3], labels and domains of
    any integer type [N], names [C] (the numbers themselves where the file has
    none). Without domains there are no keys for them.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no archive, or its arrays are not as above.
  """
  try:
    # Opened here: NumPy leaves a damaged file open.
    with open(path, 'rb') as f, np.load(f, allow_pickle=False) as file:
      arrays = {key: file[key] for key in (*_KEYS, *_DOMAIN_KEYS, *_NAME_KEYS)
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
  _check_numbers(path, arrays, 'labels', 'class_names')
  if any(key in arrays for key in _DOMAIN_KEYS):
    _check_domains(path, arrays)
  return arrays


def _check_split(path: pathlib.Path, split: str, images: np.ndarray,
                 labels: np.ndarray) -> None:
  if (images.dtype != np.uint8 or images.ndim != 4
      or images.shape[-1] not in (1, 3) or 0 in images.shape):
    raise ValueError(
        f'{split}_images in {path} must be uint8 [N, height, width, 1 or 3] '
        f'and not empty, is {images.dtype} {list(images.shape)}')
  if labels.dtype.kind not in 'iu' or labels.shape != images.shape[:1]:
    raise ValueError(
        f'{split}_labels in {path} must be integers [{len(images)}], one per '
        f'image, is {labels.dtype} {list(labels.shape)}')


def _check_domains(path: pathlib.Path, arrays: dict[str, np.ndarray]
                   ) -> None:
  for split in ('train', 'test'):
    images, domains = (arrays.get(f'{split}_{key}')
                       for key in ('images', 'domains'))
    if domains is None:
      raise ValueError(f'{path} lacks {split}_domains, which the other split '
                       'has; domains go with both or neither')
    if domains.dtype.kind not in 'iu' or domains.shape != images.shape[:1]:
      raise ValueError(
          f'{split}_domains in {path} must be integers [{len(images)}], one '
          f'per image, is {domains.dtype} {list(domains.shape)}')
  _check_numbers(path, arrays, 'domains', 'domain_names')


def _check_numbers(path: pathlib.Path, arrays: dict[str, np.ndarray], key: str,
                   names_key: str) -> None:
  """Labels or domains must index their names, which may be left out."""
  numbers = {k: arrays[k] for k in (f'train_{key}', f'test_{key}')}
  arrays.setdefault(
      names_key, np.arange(1 + max(map(np.max, numbers.values()))))
  if arrays[names_key].ndim != 1:
    raise ValueError(f'{names_key} in {path} must be a list, has shape '
                     f'{list(arrays[names_key].shape)}')
  count = len(arrays[names_key])
  what = {'labels': 'classes'}.get(key, key)
  for name, values in numbers.items():
    low, high = values.min(), values.max()
    if low < 0 or high >= count:
      raise ValueError(f'{name} in {path} run from {low} to {high}, must be '
                       f'within 0 to {count - 1} ({count} {what})')
