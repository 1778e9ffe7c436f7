# SPDX-License-Identifier: Apache-2.0
"""One recorded file: arrays, meta, kind.  NumPy only."""

from collections.abc import Iterator, Mapping
import json
import pathlib
import re
from typing import Any
import zipfile

import numpy as np


class Unsupported(ValueError):
  """The file is not one that can be run here; the message says why."""


# Kind -> regex that some array name matches from its start; first hit counts.
_KINDS = {
    'learning-rate schedule': r'learning_rate$',
    'Gaussian schedule': r'.+/present_seed_-?\d+$',
    'preprocessing': r'(.+/eval_times_255|box_samples/.+)$',
    'pretrained loading': r'pretrained/',
    'several tasks': r'train/image$',
    'train steps': r'batch/image$',
    'evaluation': r'eval/image$',
    'forward passes': r'case/.+/out/logits$',
    'continual metrics': r'.+/acc_matrix$',
}
# Files of other codes tell their kind by name.
PORTS = {
    'timm_vit_forward': 'timm ViT',
    'torch_l2p_forward': 'forward passes of a port',
    'torch_dualprompt_forward': 'forward passes of a port',
    'pgp_basis': 'bases of gradient projection',
    'l2p_pgp_train': 'gradient projection',
    'l2p_pgp_train_token': 'gradient projection',
    'dualprompt_pgp_train': 'gradient projection',
    'clip_tokens': 'tokens of CLIP',
    'clip_pgp': 'gradient projection on CLIP',
    'vq_prompt_forward': 'prompts of VQ-Prompt',
    'vq_prompt_train': 'tasks of VQ-Prompt',
    'vq_prompt_rebalance': 're-balancing',
}


class Fixture:
  """A file, which remembers the arrays that were asked for.

  Attributes:
    path: of the file.
    meta: its JSON.
    names: of all arrays.
    kind: key of `kinds.RUN`.
  """

  def __init__(self, path: str):
    """Reads the file.

    Raises:
      Unsupported: not readable, or of a kind that this package does not run.
    """
    self.path = pathlib.Path(path)
    self._arrays = _read(self.path)
    meta = self._arrays.pop('meta', None)
    try:
      self.meta: dict[str, Any] = json.loads(str(meta))
    except json.JSONDecodeError:
      self.meta = None
    if not isinstance(self.meta, dict):
      raise Unsupported(f'{path}: has no JSON in an array named meta')
    self.names = tuple(self._arrays)
    self.kind = self._find_kind()
    self._used = set()

  def _find_kind(self) -> str:
    originals = self.meta.get('originals')
    if originals is not None:
      name = self.meta.get('fixture')
      if name in PORTS:
        return PORTS[name]
      raise Unsupported(
          f'{self.path}: numbers of another code ({", ".join(originals)}); '
          f'of those only {", ".join(PORTS)} can be run so far')
    for kind, pattern in _KINDS.items():
      if any(re.match(pattern, name) for name in self.names):
        return kind
    raise Unsupported(f'{self.path}: holds no arrays of a known kind '
                      f'({", ".join(_KINDS)})')

  def __contains__(self, name: str) -> bool:
    return name in self._arrays

  def __getitem__(self, name: str) -> np.ndarray:
    if name not in self._arrays:
      raise Unsupported(f'{self.path}: array {name} is missing')
    self._used.add(name)
    return self._arrays[name]

  def under(self, prefix: str) -> Mapping[str, np.ndarray]:
    """Arrays whose name starts with `prefix/`, by the rest of the name."""
    return _Group(self, prefix + '/')

  def cases(self) -> Mapping[str, dict[str, Any]]:
    """`meta.cases`, or the cases that the array names tell of."""
    if 'cases' in self.meta:
      return self.meta['cases']
    names = [n.removeprefix('case/').split('/')[0] for n in self.names
             if '/' in n]
    return {name: {} for name in dict.fromkeys(names)}

  def unused(self) -> list[str]:
    """Arrays that nobody asked for."""
    return [name for name in self.names if name not in self._used]

  @property
  def devices(self) -> int:
    """Data-parallel replicas; the arrays know where meta says nothing."""
    axis = {'batch/image': 1, 'eval/image': 2}
    found = [self._arrays[name].shape[i] for name, i in axis.items()
             if name in self._arrays and self.kind != 'several tasks']
    return int(self.meta.get('devices', found[0] if found else 1))


class _Group(Mapping):
  """Arrays with a common prefix; reading one marks it as looked at."""

  def __init__(self, fixture: Fixture, prefix: str):
    self._fixture, self._prefix = fixture, prefix
    self._names = [name.removeprefix(prefix) for name in fixture.names
                   if name.startswith(prefix)]

  def __getitem__(self, name: str) -> np.ndarray:
    return self._fixture[self._prefix + name]

  def __contains__(self, name: object) -> bool:
    return name in self._names

  def __iter__(self) -> Iterator[str]:
    return iter(self._names)

  def __len__(self) -> int:
    return len(self._names)


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
  try:
    with np.load(path, allow_pickle=False) as file:
      return {name: file[name] for name in file.files}
  except (OSError, ValueError, AttributeError, zipfile.BadZipFile) as e:
    raise Unsupported(f'{path}: not a readable .npz of arrays ({e})') from e
