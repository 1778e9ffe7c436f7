# SPDX-License-Identifier: Apache-2.0
"""Recipes: what to run.

  config = configs.load('cifar100_l2p')
  config = configs.load('l2p:imr_5x40,torch_port')   # method:stream,preset
  config = configs.load('l2p:imr_5x40', 'torch_port')  # the same

A recipe is a file with `get_config(selection='')`.  That of a method takes a
stream and a preset, in any order; any other takes a preset.
"""

import importlib

import ml_collections

from promptcl.configs import names


def load(recipe: str, *words: str) -> ml_collections.ConfigDict:
  """The config of a recipe, named as on the command line but for the path.

  Raises:
    ValueError: no such recipe, stream or preset.
  """
  name, selection = names.split(recipe, *words)
  if name not in names.available():
    raise ValueError(names.instead(name, selection))
  return importlib.import_module(f'{__name__}.{name}').get_config(selection)
