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
"""Pretrained files -> parameter trees.

Reads the `.npz` files of the original ViT family (`ViT-B_16.npz`, ...) and
every file that uses its names.  Head and `pre_logits` are dropped, the position
table is brought to the model's grid, and everything else must fit exactly.
"""

import pathlib
import re
from typing import Any
import zipfile

from flax import traverse_util
import numpy as np
import scipy.ndimage

POSITIONS = 'Transformer/posembed_input/pos_embedding'

# Names differ in the running numbers only: the published files count all
# sub-layers of a block together, later ones count each kind from zero.
_RENAMES = (
    (re.compile(r'(encoderblock_\d+)/LayerNorm_2/'), r'\1/LayerNorm_1/'),
    (re.compile(r'(encoderblock_\d+)/MlpBlock_3/'), r'\1/MlpBlock_0/'),
    (re.compile(r'(encoderblock_\d+)/MultiHeadDotProductAttention_1/'),
     r'\1/MultiHeadDotProductAttention_0/'),
)
_DROPPED = ('head/', 'pre_logits/')


def read_npz(path: str) -> dict[str, np.ndarray]:
  """Reads a checkpoint as `{path: float32 array}`.

  Raises:
    FileNotFoundError: no such file.
    ValueError: the file is not an npz of plain arrays.
  """
  if not pathlib.Path(path).is_file():
    raise FileNotFoundError(f'init_checkpoint {path!r} does not exist')
  try:
    # Opened here, since NumPy leaves a damaged file open.
    with open(path, 'rb') as raw, np.load(raw, allow_pickle=False) as file:
      return {k: np.asarray(file[k], np.float32) for k in file.files}
  except (ValueError, OSError, zipfile.BadZipFile) as e:
    raise ValueError(f'init_checkpoint {path!r} is not a readable .npz of '
                     f'arrays: {e}') from e


def resize_positions(table: np.ndarray, num_tokens: int) -> np.ndarray:
  """Brings a position table to another square grid.

  Keeps the class row and interpolates the grid linearly with its corner
  points fixed on the corner points, as the original's loader does.

  Args:
    table: [1, 1 + g * g, D].
    num_tokens: 1 + G * G of the model.

  Returns:
    [1, 1 + G * G, D] float32.

  Raises:
    ValueError: one of the grids is not square.
  """
  if table.shape[1] == num_tokens:
    return table
  old, new = (round((n - 1)**0.5) for n in (table.shape[1], num_tokens))
  if (old * old, new * new) != (table.shape[1] - 1, num_tokens - 1):
    raise ValueError(f'position table with {table.shape[1]} rows does not fit '
                     f'{num_tokens} tokens: both grids must be square')
  grid = table[0, 1:].reshape(old, old, -1)
  zoom = (new / old, new / old, 1)
  grid = scipy.ndimage.zoom(grid, zoom, order=1)
  return np.concatenate([table[:, :1], grid.reshape(1, new * new, -1)], axis=1)


def canonical(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Drops the head and renames to the names of `models/vit.py`."""
  kept = {}
  for name, array in arrays.items():
    if name.startswith(_DROPPED):
      continue
    for pattern, replacement in _RENAMES:
      name = pattern.sub(replacement, name)
    kept[name] = array
  return kept


def merge(arrays: dict[str, np.ndarray], like: Any, *, source: str) -> Any:
  """Fits checkpoint arrays to a backbone tree.

  Args:
    arrays: names -> arrays, as read from the file.
    like: backbone tree whose leaves have `shape` (arrays or shape structs).
    source: file name for messages.

  Returns:
    Tree of float32 numpy arrays shaped as `like`.

  Raises:
    ValueError: lists all missing, unexpected and misshaped arrays.
  """
  arrays = canonical(arrays)
  wanted = traverse_util.flatten_dict(like, sep='/')
  if POSITIONS in arrays and POSITIONS in wanted:
    arrays[POSITIONS] = resize_positions(
        arrays[POSITIONS], wanted[POSITIONS].shape[1])
  problems = [f'missing {k}' for k in sorted(wanted.keys() - arrays.keys())]
  problems += [f'unexpected {k}' for k in sorted(arrays.keys() - wanted.keys())]
  problems += [
      f'{k} has shape {list(arrays[k].shape)}, needs {list(wanted[k].shape)}'
      for k in sorted(wanted.keys() & arrays.keys())
      if tuple(arrays[k].shape) != tuple(wanted[k].shape)]
  if problems:
    raise ValueError(f'init_checkpoint {source!r} does not fit the model: '
                     + '; '.join(problems))
  return traverse_util.unflatten_dict({k: arrays[k] for k in wanted}, sep='/')


def load(path: str, like: Any) -> Any:
  """Reads `path` and fits it to the backbone tree `like`, see `merge`."""
  return merge(read_npz(path), like, source=path)
