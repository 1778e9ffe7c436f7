# SPDX-License-Identifier: Apache-2.0
"""Reads files of arrays; what they are is told by content, not by name.

  formats.kind('weights.bin')           # 'npz', 'safetensors'
  formats.read('weights.bin')           # {name: float32 array}
  formats.peek('weights.bin')           # names and what the file says of itself

An `.npz` may hold an entry `meta`, a JSON text with the family of the weights;
`tools/convert_weights.py` writes it.
"""

from collections.abc import Callable, Mapping
import dataclasses
import json
import lzma
import os
import pathlib
from typing import TypeVar
import zipfile
import zlib

from etils import epy
import numpy as np

with epy.lazy_imports():  # steps are measured where it is not installed
  import safetensors

META = 'meta'
_HEADS = ('head/bias', 'head.bias')
_CONVERT = 'python -m tools.convert_weights'
# What NumPy raises for a file that is no archive, is cut off, damaged, locked
# or pickled.
UNREADABLE = (ValueError, TypeError, OSError, EOFError, KeyError, RuntimeError,
              MemoryError, OverflowError, SyntaxError, zipfile.BadZipFile,
              zlib.error, lzma.LZMAError)

T = TypeVar('T')


@dataclasses.dataclass(frozen=True)
class Peek:
  """What a file shows without its arrays being read.

  Attributes:
    names: of all arrays.
    num_outputs: of its classifier, 0 without one.
    meta: what the file says of itself.
  """

  names: frozenset[str]
  num_outputs: int
  meta: Mapping[str, object]


def sniff(path: str) -> str:
  """'npz', 'safetensors', 'torch', 'folder', or '' for anything else.

  Raises:
    FileNotFoundError: nothing there.
  """
  if os.path.isdir(path):
    return 'folder'
  if not os.path.isfile(path):
    raise FileNotFoundError(f'init_checkpoint {path!r} does not exist')
  with open(path, 'rb') as file:
    start = file.read(9)
  if start[8:] == b'{':  # after the length of a JSON header
    return 'safetensors'
  if start[:2] == b'PK':
    return 'torch' if _holds_pickle(path) else 'npz'
  return 'torch' if start[:1] == b'\x80' else ''  # \x80 begins a pickle


def kind(path: str) -> str:
  """'npz' or 'safetensors'.

  Raises:
    FileNotFoundError: no such file.
    ValueError: a folder, a file of torch, or something else.
  """
  found = sniff(path)
  if found == 'folder':
    raise ValueError(
        f'init_checkpoint {path!r} is a folder; the backbone of a run is made '
        f'a file by `{_CONVERT} {path} backbone.npz`')
  if found == 'torch':
    raise ValueError(f'init_checkpoint {path!r} is a file of torch; convert it '
                     f'once: `{_CONVERT} {path} weights.npz`')
  if not found:
    raise ValueError(f'init_checkpoint {path!r} is neither a readable .npz nor '
                     'a .safetensors file')
  return found


def _holds_pickle(path: str) -> bool:
  """Whether a zip is one of `torch.save`."""
  try:
    with zipfile.ZipFile(path) as archive:
      return any(name.endswith('data.pkl') for name in archive.namelist())
  except UNREADABLE:
    return False


def read(path: str) -> dict[str, np.ndarray]:
  """Reads all arrays as `{name: float32 array}`, under the file's own names.

  Raises:
    FileNotFoundError, ValueError: nothing there, or nothing readable.
  """
  return read_npz(path) if kind(path) == 'npz' else _read_safetensors(path)


def read_npz(path: str) -> dict[str, np.ndarray]:
  """Reads the arrays of an `.npz`, without `meta`; raises as `read` does."""
  def arrays(file):
    return {name: _float32(name, file[name])
            for name in file.files if name != META}

  kind(path)
  return _with_npz(path, arrays)


def peek(path: str) -> Peek:
  """Names and description of a file; raises as `read` does."""
  if kind(path) == 'npz':
    return _with_npz(path, _peek_npz)
  return _with_safetensors(path, _peek_safetensors)


def _peek_npz(file: np.lib.npyio.NpzFile) -> Peek:
  names = frozenset(file.files) - {META}
  outputs = [file[name].size for name in _HEADS if name in names]
  meta = json.loads(str(file[META])) if META in file.files else {}
  if not isinstance(meta, dict):
    raise ValueError(f'{META} is not a JSON object')
  return Peek(names, sum(outputs), meta)


def _peek_safetensors(file: 'safetensors.safe_open') -> Peek:
  names = frozenset(file.keys())
  outputs = [int(np.prod(file.get_slice(name).get_shape()))
             for name in _HEADS if name in names]
  return Peek(names, sum(outputs), file.metadata() or {})


def _read_safetensors(path: str) -> dict[str, np.ndarray]:
  # bfloat16 becomes a type of NumPy's by ml_dtypes, which JAX brings along.
  def arrays(file):
    names = file.keys()
    return {name: _float32(name, file.get_tensor(name)) for name in names}

  return _with_safetensors(path, arrays)


def _float32(name: str, array: np.ndarray) -> np.ndarray:
  """Weights are real numbers; refuses an array of something else."""
  if np.issubdtype(array.dtype, np.complexfloating) or array.dtype.kind in 'SU':
    raise ValueError(f'{name} is {array.dtype}, must be real numbers')
  return np.asarray(array, np.float32)


def _with_npz(path: str, use: Callable[[np.lib.npyio.NpzFile], T]) -> T:
  """`use(open file)`; one line for whatever is wrong with the file."""
  try:
    # Opened here, since NumPy leaves a damaged file open.
    with open(path, 'rb') as raw, np.load(raw, allow_pickle=False) as file:
      return use(file)
  except UNREADABLE as e:
    raise ValueError(f'init_checkpoint {path!r} is not a readable .npz of '
                     f'arrays: {e}') from e


def _with_safetensors(path: str, use: Callable[['safetensors.safe_open'], T]
                      ) -> T:
  """`use(open file)`; one line for whatever is wrong with the file."""
  try:
    with safetensors.safe_open(path, 'np') as file:
      return use(file)
  except (ValueError, TypeError, OSError,
          safetensors.SafetensorError) as e:
    raise ValueError(f'init_checkpoint {path!r} is not a readable '
                     f'.safetensors file: {e}') from e


def write_npz(path: str | os.PathLike, arrays: Mapping[str, np.ndarray],
              meta: Mapping[str, object]) -> None:
  """Writes arrays and `meta`, whole or not at all."""
  path = pathlib.Path(path)
  draft = path.with_name(f'{path.name}.{os.getpid()}.part')
  try:
    with open(draft, 'wb') as file:
      np.savez(file, **arrays, **{META: np.array(json.dumps(dict(meta)))})
    os.replace(draft, path)
  finally:
    draft.unlink(missing_ok=True)
