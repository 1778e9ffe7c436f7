# SPDX-License-Identifier: Apache-2.0
"""A wrong input: what the user did and the line that the user sees."""

from collections.abc import Callable
import dataclasses
import hashlib
import pathlib
import shlex

import numpy as np

from promptcl.input_pipeline.read import datasets
from promptcl.models import prompts
from promptcl.models.networks import backbones
from tests.helpers import fakes

FOLDER = 'FOLDER'  # stands for the current folder in a line
SHA256 = 'SHA256'  # for the checksum of the weights
# For the names that exist, to which a new method or data set adds its own.
NAMES = {'METHODS': str(prompts.available()),
         'BACKBONES': ', '.join(backbones.VARIANTS),
         'DATASETS': ', '.join((*datasets.NAMES, *datasets.SEQUENCES))}
_RECIPE = '''
from tests.helpers import fakes

def get_config():
  return fakes.bare_config(
      dataset='npz:data.npz', init_checkpoint='vit.npz', num_epochs=1)
'''


def nothing(folder: pathlib.Path) -> None:
  """The folder is as it should be."""


@dataclasses.dataclass(frozen=True)
class Row:
  """One wrong input.

  Attributes:
    what: is wrong, for people.
    typed: after `python main.py --my_config=recipe.py --workdir=run`.
    line: on standard error, after `error: `.
    spoil: makes the wrong file in the current folder, which holds a good
      `recipe.py`, `data.npz` and `vit.npz`.
    alone: `typed` is all that comes after `python main.py`.
  """

  what: str
  typed: str
  line: str
  spoil: Callable[[pathlib.Path], None] = nothing
  alone: bool = False

  @property
  def arguments(self) -> list[str]:
    first = [] if self.alone else ['--my_config=recipe.py', '--workdir=run']
    return [*first, *shlex.split(self.typed)]


def setting(what: str, changes: str, line: str) -> Row:
  """A row of config keys: `changes` is `key=value key=value ...`."""
  return Row(what, keys(changes), line)


def keys(changes: str) -> str:
  """`key=value ...` as one types it."""
  return ' '.join(_quoted(f'--my_config.{change}')
                  for change in changes.split())


def _quoted(word: str) -> str:
  """In double quotes, where single ones would be unreadable."""
  if "'" in word and not set(word) & set('"$`\\!'):
    return f'"{word}"'
  return shlex.quote(word)


def recipe(what: str, text: str, line: str) -> Row:
  """A row whose recipe has another text."""
  return Row(what, '', line, lambda folder: write(
      folder / 'recipe.py', text.encode()) and None)


def seen(text: str, folder: pathlib.Path) -> str:
  """A message with placeholders for what differs from machine to machine."""
  weights = folder / 'vit.npz'
  digest = hashlib.sha256(weights.read_bytes()).hexdigest() if (
      weights.is_file()) else FOLDER
  for placeholder, names in NAMES.items():
    text = text.replace(names, placeholder)
  return text.replace(str(folder), FOLDER).replace(digest, SHA256)


def write_good(folder: pathlib.Path) -> None:
  """Everything that a run needs, small."""
  fakes.write_data(folder / 'data.npz')
  fakes.write_checkpoint(folder / 'vit.npz')
  (folder / 'recipe.py').write_text(_RECIPE)
  (folder / 'cifar.py').write_text(
      'from promptcl.configs.cifar100_l2p import get_config')
  (folder / 'digits.py').write_text(
      'from promptcl.configs.digits_l2p import get_config')


def write(path: pathlib.Path, content: bytes) -> int:
  """Writes a file, its folder too."""
  path.parent.mkdir(parents=True, exist_ok=True)
  return path.write_bytes(content)


def cut(name: str, size: int) -> Callable[[pathlib.Path], None]:
  """Leaves the first bytes of a file."""
  return lambda folder: write(
      folder / name, (folder / name).read_bytes()[:size]) and None


def replaced(name: str, **arrays) -> Callable[[pathlib.Path], None]:
  """Other arrays in an .npz; None leaves one out, functions get the old.

  A double underscore in a name stands for a slash.
  """
  def spoil(folder):
    with np.load(folder / name) as file:
      content = dict(file)
    for key, value in arrays.items():
      key = key.replace('__', '/')
      if value is None:
        del content[key]
      else:
        content[key] = value(content[key]) if callable(value) else value
    np.savez(folder / name, **content)

  return spoil
