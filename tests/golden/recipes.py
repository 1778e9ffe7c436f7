# SPDX-License-Identifier: Apache-2.0
"""What each recipe and each preset sets, as text.

  texts = recipes.texts()              # {'recipes/digits_l2p.txt': 'key = ...'}

A recipe is written as its difference from the defaults, a preset as its
difference from each recipe; recipes that it changes alike share a paragraph.
Both are resolved: as a run sees them, not as a file happens to say it.
"""

import pathlib
import textwrap
from typing import Any

import ml_collections

from promptcl import configs
from promptcl.configs import base
from promptcl.configs import listing
from promptcl.configs import names
from promptcl.configs import presets
from promptcl.configs import streams
from promptcl.models.weights import pretrained
from promptcl.train_lib.startup import config_values
from promptcl.train_lib.startup import startup

FOLDER = pathlib.Path(__file__).resolve().parent
_ROOT = FOLDER.parents[1]
# Name under which a recipe is kept -> how it is spelt.
RECIPES = {**{name: name for name in listing.recipes()}, **names.MOVED}
_WORDS = {word for recipe in RECIPES.values() for word in recipe.split(':')}
# Methods and streams that came later: on CIFAR-100, and with L2P.
RECIPES = {
    **{f'cifar100_{name}': f'{name}:cifar100' for name in listing.methods()
       if name not in _WORDS},
    **{f'{name}_l2p': f'l2p:{name}' for name in streams.STREAMS
       if name not in _WORDS},
    **RECIPES}


def texts() -> dict[str, str]:
  """`{path under tests/golden: what must stand there}`."""
  plain = {name: resolved(name) for name in sorted(RECIPES)}
  defaults = dict(config_values.leaves(base.get_config()))
  return {
      **{f'recipes/{name}.txt': _lines(_difference(defaults, values))
         for name, values in plain.items()},
      **{f'presets/{preset}.txt': _of_preset(preset, plain)
         for preset in presets.PRESETS}}


def written() -> list[str]:
  """Paths that stand there now."""
  return sorted(str(path.relative_to(FOLDER)) for kind in ('recipes', 'presets')
                for path in (FOLDER / kind).glob('*.txt'))


def resolved(name: str, preset: str = '') -> dict[str, Any]:
  """`{dotted key: value}` of a recipe as a run sees it.

  Only `input_range=weights` stays as it is, which is read off the weights.

  Raises:
    ValueError: the recipe cannot run, or not under this preset.
  """
  config = configs.load(RECIPES[name], preset)
  weights, config.init_checkpoint = config.init_checkpoint, None
  expanded = startup.expand(config)
  runnable = ml_collections.ConfigDict(expanded)
  runnable.init_checkpoint = pretrained.RANDOM
  startup.check(runnable)
  values = dict(config_values.leaves(expanded))
  if weights and weights.startswith(str(_ROOT)):
    weights = str(pathlib.Path(weights).relative_to(_ROOT))
  return {**values, 'init_checkpoint': weights}


def _of_preset(preset: str, plain: dict[str, dict[str, Any]]) -> str:
  """Paragraphs of a preset, each under the recipes it is about."""
  groups: dict[str, list[str]] = {}
  for name, values in plain.items():
    try:
      text = _lines(_difference(values, resolved(name, preset)))
    except ValueError as refused:
      text = f'{refused}\n'
    groups.setdefault(text, []).append(name)
  return '\n'.join(
      textwrap.fill(', '.join(names), 80, break_long_words=False) + ':\n'
      + textwrap.indent(text, '  ') for text, names in groups.items())


def _difference(before: dict[str, Any], after: dict[str, Any]
                ) -> dict[str, Any]:
  return {key: value for key, value in after.items() if value != before[key]}


def _lines(values: dict[str, Any]) -> str:
  return ''.join(f'{key} = {value!r}\n' for key, value in sorted(
      values.items()))
