# SPDX-License-Identifier: Apache-2.0
"""Pretrained files -> parameter trees.

Reads the `.npz` files of the original ViT family (`ViT-B_16.npz`, ...) and
every file that uses its names, `.safetensors` files with timm's names, and CLIP
under the names of OpenAI or Hugging Face, from a folder of the latter, too.
Classifier and `pre_logits` are dropped, the position table is brought to the
model's grid, and everything else must fit exactly.

  weights = pretrained.from_config(config, backbone_shapes)
"""

from collections.abc import Mapping
import hashlib
import re
from typing import Any

from etils import epy
from flax import traverse_util
from ml_collections import ConfigDict
import numpy as np

from promptcl.models.networks import clip
from promptcl.models.weights import clip_names
from promptcl.models.weights import download
from promptcl.models.weights import families
from promptcl.models.weights import formats
from promptcl.models.weights import hugging_face
from promptcl.models.weights import mismatch
from promptcl.models.weights import timm_names

with epy.lazy_imports():  # only a table of another size is resized
  import scipy.ndimage

POSITIONS = 'Transformer/posembed_input/pos_embedding'
PROMPT_POSITIONS = POSITIONS + '_prompts'
RANDOM = 'random'  # value of init_checkpoint that asks for random weights

# Names differ in the running numbers only: the published files count all
# sub-layers of a block together, later ones count each kind from zero.
_RENAMES = (
    (re.compile(r'(encoderblock_\d+)/LayerNorm_2/'), r'\1/LayerNorm_1/'),
    (re.compile(r'(encoderblock_\d+)/MlpBlock_3/'), r'\1/MlpBlock_0/'),
    (re.compile(r'(encoderblock_\d+)/MultiHeadDotProductAttention_1/'),
     r'\1/MultiHeadDotProductAttention_0/'),
)
_DROPPED = ('head/', 'pre_logits/')
Tree = Mapping[str, Any]  # nested, of leaves with `shape`


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


def canonical(arrays: Mapping[str, np.ndarray], *, num_heads: int = 0,
              num_text_heads: int = 0) -> dict[str, np.ndarray]:
  """Drops the classifier and renames to the names of `models/networks/vit.py`.

  Args:
    arrays: under the original's names, timm's or those of CLIP.
    num_heads: of the model; only the original's names do not need it.
    num_text_heads: of its text tower, if it has one.

  Raises:
    ValueError: weights that this ViT cannot hold.
  """
  if timm_names.is_timm(arrays):
    return timm_names.convert(arrays, num_heads=num_heads)
  if clip_names.is_clip(arrays):
    return clip_names.convert(
        arrays, num_heads=num_heads, num_text_heads=num_text_heads)
  kept = {}
  for name, array in arrays.items():
    if name.startswith(_DROPPED):
      continue
    for pattern, replacement in _RENAMES:
      name = pattern.sub(replacement, name)
    kept[name] = array
  return kept


def merge(arrays: Mapping[str, np.ndarray], like: Tree, *, source: str) -> Tree:
  """Fits checkpoint arrays to a backbone tree.

  Args:
    arrays: names -> arrays, as read from the file.
    like: backbone tree whose leaves have `shape` (arrays or shape structs).
    source: file name for messages.

  Returns:
    Tree of float32 numpy arrays shaped as `like`.

  Raises:
    ValueError: lists all missing, unexpected and misshaped arrays; what
      several blocks share is one entry.
  """
  wanted = traverse_util.flatten_dict(like, sep='/')
  problem = f'init_checkpoint {source!r} does not fit the model: '
  try:
    arrays = canonical(arrays, num_heads=_num_heads(wanted, 'Transformer/'),
                       num_text_heads=_num_heads(wanted, clip.TEXT))
    if _has_table(arrays) and POSITIONS in wanted:
      arrays[POSITIONS] = resize_positions(
          arrays[POSITIONS], wanted[POSITIONS].shape[1])
      if PROMPT_POSITIONS in wanted:  # copies of the class token's row
        arrays.setdefault(PROMPT_POSITIONS, np.repeat(
            arrays[POSITIONS][:, :1], wanted[PROMPT_POSITIONS].shape[1], 1))
  except ValueError as e:
    raise ValueError(problem + str(e)) from e
  if wrong := mismatch.lines(arrays, wanted):
    raise ValueError(problem + '; '.join(wrong))
  if bad := [k for k in sorted(wanted) if not np.isfinite(arrays[k]).all()]:
    raise ValueError(f'init_checkpoint {source!r} is damaged: not finite are '
                     f'{", ".join(bad[:3])}{", ..." * (len(bad) > 3)}')
  return traverse_util.unflatten_dict({k: arrays[k] for k in wanted}, sep='/')


def _num_heads(wanted: Mapping[str, mismatch.Shaped], tower: str) -> int:
  """H of a tower of a model, by its flat shapes."""
  kernels = (x for k, x in wanted.items()
             if k.startswith(tower) and k.endswith('/query/kernel'))
  return next((kernel.shape[1] for kernel in kernels), 1)


def _has_table(arrays: Mapping[str, np.ndarray]) -> bool:
  return POSITIONS in arrays and arrays[POSITIONS].ndim == 3


def load(path: str, like: Tree) -> Tree:
  """Reads `path` and fits it to the backbone tree `like`, see `merge`."""
  return merge(formats.read(path), like, source=path)


def local_path(config: ConfigDict) -> str:
  """Where the file of `config.init_checkpoint` lies; fetches an address.

  In a folder of Hugging Face it is the file with the weights.

  Raises:
    FileNotFoundError, ValueError, OSError: nothing there, a download that
      failed, or another checksum than `config.init_sha256`.
  """
  path = config.init_checkpoint
  if '://' in path:
    return download.fetch(path, cache_dir=config.cache_dir,
                          sha256=config.init_sha256)
  if hugging_face.is_folder(path):
    path = hugging_face.weights(path)
  if config.init_sha256:
    formats.sniff(path)  # for its message about a file that is not there
    with open(path, 'rb') as file:
      found = hashlib.file_digest(file, 'sha256').hexdigest()
    if found != config.init_sha256.lower():
      raise ValueError(f'init_checkpoint {path!r} has sha256 {found}, but '
                       f'config.init_sha256 is {config.init_sha256}')
  return path


def family(config: ConfigDict) -> families.Family:
  """The family of the weights that `config` names.

  Fetches the file only if its address does not tell; raises as `local_path`.
  """
  address = config.init_checkpoint
  if address == RANDOM:
    return families.of_model(config.model_name)
  if '://' in address and (name := families.by_name(address)):
    return families.FAMILIES[name]
  return families.find(local_path(config), model_name=config.model_name,
                       address=address)


def input_range(config: ConfigDict) -> str:
  """What `config.input_range` 'weights' stands for.

  Raises:
    ValueError: the file does not tell; also what `local_path` raises.
  """
  found = family(config)
  if not found.input_range:
    raise ValueError(
        "config.input_range is 'weights', but init_checkpoint "
        f'{config.init_checkpoint!r} does not tell its family; set '
        'minus_one_one (AugReg) or imagenet (DeiT, DINO, iBOT, MoCo-v3)')
  return found.input_range


def from_config(config: ConfigDict, like: Tree) -> Tree | None:
  """The backbone tree that `config` asks for, shaped as `like`.

  Returns:
    Tree of float32 numpy arrays, or None for random weights.

  Raises:
    FileNotFoundError, ValueError, OSError: not there, or it does not fit.
  """
  if config.init_checkpoint == RANDOM:
    return None
  if hugging_face.is_folder(config.init_checkpoint):
    hugging_face.check(config.init_checkpoint, config.model_name)
  path, model_name = local_path(config), config.model_name
  found = families.find(path, model_name=model_name,
                        address=config.init_checkpoint)
  families.check_gelu(found, model_name=model_name,
                      source=config.init_checkpoint)
  return load(path, like)
