# SPDX-License-Identifier: Apache-2.0
"""What keeps the arrays of a file from fitting a model, for people."""

from collections.abc import Iterable, Mapping
import re
from typing import Protocol

_BLOCK = re.compile(r'(?<=encoderblock_)\d+|(?<=blocks\.)\d+')
_MAX_LINES = 8  # of one kind



class Shaped(Protocol):
  """An array, or what stands for one."""

  @property
  def shape(self) -> tuple[int, ...]:
    ...


def lines(arrays: Mapping[str, Shaped], wanted: Mapping[str, Shaped]
          ) -> list[str]:
  """Missing, unexpected and misshaped arrays; empty if all fit.

  Args:
    arrays, wanted: names -> leaves with `shape`, as in `networks/vit.py`.

  Returns:
    Sizes of file and model if they differ, then one entry for what several
    blocks share: the first 8 of each kind and how many more.
  """
  shape = lambda leaf: list(leaf.shape)
  kinds = (
      [('missing {}', k) for k in sorted(wanted.keys() - arrays.keys())],
      [('unexpected {}', k) for k in sorted(arrays.keys() - wanted.keys())],
      [(f'{{}} has shape {shape(arrays[k])}, needs {shape(wanted[k])}', k)
       for k in sorted(wanted.keys() & arrays.keys())
       if shape(arrays[k]) != shape(wanted[k])])
  found = [line for kind in kinds for line in shortened(kind)]
  have, need = _size(arrays), _size(wanted)
  if found and have and need and have != need:
    found.insert(0, f'the file has {have}, the model {need}')
  return found


def shortened(problems: Iterable[tuple[str, str]]) -> list[str]:
  """`(text with {}, array name)` -> texts, those of several blocks as one."""
  groups = {}
  for text, name in problems:
    groups.setdefault((text, _BLOCK.sub('*', name)), []).append(name)
  found = [_line(text, pattern, names)
           for (text, pattern), names in groups.items()]
  hidden = len(found) - _MAX_LINES
  kind = next(iter(groups), ('',))[0].partition('{')[0] or 'misshaped '
  return found[:_MAX_LINES] + [f'and {hidden} more {kind}'.rstrip()
                               ] * (hidden > 0)


def _line(text: str, pattern: str, names: list[str]) -> str:
  if len(names) == 1:
    return text.format(names[0])
  numbers = sorted(int(_BLOCK.search(name)[0]) for name in names)
  return (f'{text.format(pattern)} (in {len(numbers)} blocks, '
          f'{numbers[0]} to {numbers[-1]})')


def _size(leaves: Mapping[str, Shaped]) -> str:
  """Width and depth of a ViT, or '' for something else."""
  numbers = {int(match[0]) for match in map(_BLOCK.search, leaves) if match}
  if 'cls' not in leaves or not numbers:
    return ''
  return f'width {leaves["cls"].shape[-1]} and {1 + max(numbers)} blocks'
