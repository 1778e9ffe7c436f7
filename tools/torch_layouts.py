# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of DeiT, DINO, iBOT, MoCo-v3 and timm -> plain ViT arrays.

Pure functions over dictionaries, so that they need no torch.  The containers
(as the published training code writes them):

  DINO                 the arrays themselves
  DeiT                 {'model': arrays}
  iBOT, one network    {'state_dict': arrays}
  iBOT, DINO, whole    {'teacher': arrays, 'student': arrays, 'args', ...}
  MoCo-v3              {'state_dict': arrays, 'arch', 'optimizer', ...}

with names after a prefix such as `module.base_encoder.`.  All arrays of a
plain ViT must be there, and nothing that would change what it computes: a
loader that skips what it does not know ends with random weights.
"""

from collections.abc import Iterable, Mapping
import dataclasses
import re

import numpy as np

from promptcl.models.networks import vit
from promptcl.models.weights import mismatch
from promptcl.models.weights import timm_names

NETWORKS = ('teacher', 'student')
_CONTAINERS = (*NETWORKS, 'state_dict', 'model')
_PREFIXES = ('module.', 'base_encoder.', 'backbone.')
_MARK = 'patch_embed.proj.weight'  # every ViT of this naming has it
# Beside the backbone: other networks, projectors, tokens for hidden patches.
_LEFT_OUT = re.compile(
    r'(module\.)?(masked_embed|mask_token|(momentum_encoder|predictor|'
    r'head|fc_norm|pre_logits)\..*)')


@dataclasses.dataclass(frozen=True)
class Found:
  """The backbone inside a checkpoint.

  Attributes:
    arrays: timm names -> arrays, of a plain ViT only.
    family: key of `families.FAMILIES`, '' if the checkpoint does not tell.
    left_out: names of arrays that do not belong to the backbone.
  """

  arrays: dict[str, np.ndarray]
  family: str
  left_out: tuple[str, ...]


def unpack(content: object, *, network: str = 'teacher') -> Found:
  """Finds the backbone in what a checkpoint file holds.

  Args:
    content: as `torch.load` gives it, with arrays in place of tensors.
    network: 'teacher' or 'student', where there are both.

  Raises:
    ValueError: no ViT in it, an incomplete one, or one that is not plain.
  """
  state, container = arrays_in(content, network)
  prefix = _prefix(state)
  inside = {name.removeprefix(prefix): array for name, array in state.items()
            if name.startswith(prefix)}
  timm_names.refuse_distilled(inside)
  outside = [name for name in state if not name.startswith(prefix)]
  wanted = timm_names.expected(_depth(inside))
  left_out = [*outside, *(name for name in inside if name not in wanted)]
  problems = [('missing {}', name) for name in sorted(wanted - inside.keys())]
  problems += [('unexpected {}', name) for name in sorted(left_out)
               if not _LEFT_OUT.fullmatch(name)]
  if problems:
    raise ValueError('not a plain ViT: '
                     + '; '.join(mismatch.shortened(problems)))
  return Found({name: inside[name] for name in sorted(wanted)},
               _family(content, container, prefix), tuple(sorted(left_out)))


def arrays_in(content: object, network: str
              ) -> tuple[dict[str, np.ndarray], str]:
  """The dictionary of arrays and the key it lay under ('' for none).

  Raises:
    ValueError: there are none.
  """
  if not isinstance(content, Mapping):
    raise ValueError(f'holds a {type(content).__name__}, not a dictionary')
  names = [name for name in _CONTAINERS
           if isinstance(content.get(name), Mapping)]
  name = network if network in names else next(iter(names), '')
  state = content[name] if name else content
  arrays = {key: value for key, value in state.items()
            if isinstance(key, str) and hasattr(value, 'shape')}
  if not arrays:
    raise ValueError(f'holds no arrays, but {sorted(map(str, content))[:12]}')
  return arrays, name


def _depth(names: Iterable[str]) -> int:
  """Number of blocks, by the last one that has an array."""
  found = map(re.compile(r'blocks\.(\d+)\.').match, names)
  return 1 + max((int(match[1]) for match in found if match), default=-1)


def _prefix(state: Mapping[str, object]) -> str:
  """What stands before the names of the backbone."""
  allowed = re.compile('(?:' + '|'.join(map(re.escape, _PREFIXES)) + ')*')
  found = [name.removesuffix(_MARK) for name in state if name.endswith(_MARK)]
  found = [prefix for prefix in found if allowed.fullmatch(prefix)]
  if len(found) != 1:
    raise ValueError(f'holds {len(found)} arrays {_MARK} where a ViT has one; '
                     f'it begins with {sorted(state)[:6]}')
  return found[0]


def _family(content: Mapping[str, object], container: str, prefix: str) -> str:
  """The family, where the layout is that of one only."""
  if 'base_encoder.' in prefix:
    return 'moco'
  if container in NETWORKS:
    losses = {'ibot_loss': 'ibot', 'dino_loss': 'dino'}
    return next((losses[key] for key in losses if key in content), '')
  return ''


def num_heads(found: Found, family: str) -> int:
  """Heads of the published model of this width; the arrays do not tell.

  Also makes sure that all its blocks are there: 12 at width 768, so 150 arrays.

  Raises:
    ValueError: a width that none of the variants has, or another depth.
  """
  width = int(found.arrays['cls_token'].shape[-1])
  patch = int(found.arrays[_MARK].shape[-1])
  heads, depths = ({getattr(variant, name) for variant in vit.VARIANTS.values()
                    if variant.width == width
                    and variant.patch_size in (patch, 16)}
                   for name in ('num_heads', 'depth'))
  if len(heads) != 1:
    raise ValueError(f'has width {width}, for which no number of heads is '
                     'known; give --num_heads')
  depth = _depth(found.arrays)
  if depth not in depths:
    raise ValueError(f'has {depth} blocks, the published ViT of width {width} '
                     f'has {depths.pop()}: arrays are missing at the end; for '
                     'a model of your own give --num_heads')
  if family == 'moco' and width == 384:
    return 12  # as MoCo-v3 defines its small ViT; everybody else takes 6
  return heads.pop()
