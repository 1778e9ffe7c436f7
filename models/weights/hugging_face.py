# SPDX-License-Identifier: Apache-2.0
"""A folder as Hugging Face's libraries write it: CLIP only.

It holds `config.json` and `model.safetensors`; `tokenizer.json` beside them is
found by `models/networks/tokenizer.py`.  Shapes are compared when the weights
are read, but number of heads and activation are in `config.json` alone.
"""

from collections.abc import Mapping
import json
import os
from typing import Any

from promptcl.models.networks import backbones
from promptcl.models.networks import clip

CONFIG, WEIGHTS = 'config.json', 'model.safetensors'
# What a config leaves out has these values; published ones leave out most.
_IMAGE = {'patch_size': 32, 'hidden_size': 768, 'num_hidden_layers': 12,
          'num_attention_heads': 12, 'intermediate_size': 3072,
          'hidden_act': 'quick_gelu', 'layer_norm_eps': 1e-5}
_TEXT = {'hidden_size': 512, 'num_hidden_layers': 12, 'num_attention_heads': 8,
         'intermediate_size': 2048, 'max_position_embeddings': 77,
         'vocab_size': 49408, 'hidden_act': 'quick_gelu',
         'layer_norm_eps': 1e-5}


def is_folder(path: str) -> bool:
  """Whether `path` is such a folder, going by what its config says."""
  return os.path.isdir(path) and 'model_type' in _read(path)


def weights(path: str) -> str:
  """The file of arrays in a folder.

  Raises:
    FileNotFoundError: there is none that can be read here.
  """
  file = os.path.join(path, WEIGHTS)
  if not os.path.isfile(file):
    raise FileNotFoundError(
        f'init_checkpoint {path!r} has no {WEIGHTS}; a pytorch_model.bin in it '
        'can be converted once: `python -m tools.convert_weights '
        'pytorch_model.bin weights.npz`')
  return file


def check(path: str, model_name: str) -> None:
  """Compares the config of a folder with the model.

  Raises:
    ValueError: another kind of model, or another one of this kind; lists what
      differs.
  """
  config, variant = _read(path), backbones.VARIANTS[model_name]
  problem = f'init_checkpoint {path!r} does not fit {model_name}: '
  if config['model_type'] != 'clip' or not isinstance(variant, clip.Variant):
    raise ValueError(f'{problem}its model_type is {config["model_type"]!r}; '
                     'folders are read for clip only, by a CLIP-* model')
  stored = {'projection_dim': config.get('projection_dim', 512)}
  for part, defaults in ('vision', _IMAGE), ('text', _TEXT):
    told = {**(config.get(f'{part}_config') or {}),
            **(config.get(f'{part}_config_dict') or {})}
    stored |= {f'{part}_config.{key}': told.get(key, default)
               for key, default in defaults.items()}
  wanted = _wanted(variant)
  wrong = [f'{key} is {stored[key]!r}, needs {wanted[key]!r}'
           for key in wanted if stored[key] != wanted[key]]
  if wrong:
    raise ValueError(problem + '; '.join(wrong))


def _wanted(variant: clip.Variant) -> dict[str, object]:
  """The entries of a config that describes a variant."""
  text = variant.text_shape
  both = {'hidden_act': 'quick_gelu', 'layer_norm_eps': variant.traits.epsilon}
  image = {**_sizes(variant), 'patch_size': variant.patch_size, **both}
  words = {**_sizes(text), 'max_position_embeddings': text.context_length,
           'vocab_size': text.vocabulary, **both}
  return {'projection_dim': variant.joint_width,
          **{f'vision_config.{key}': image[key] for key in _IMAGE},
          **{f'text_config.{key}': words[key] for key in _TEXT}}


def _sizes(tower: clip.Variant | clip.TextShape) -> dict[str, int]:
  return {'hidden_size': tower.width, 'num_hidden_layers': tower.depth,
          'num_attention_heads': tower.num_heads,
          'intermediate_size': tower.mlp_dim}


def _read(path: str) -> Mapping[str, Any]:
  """The config of a folder; empty where there is no JSON object."""
  try:
    with open(os.path.join(path, CONFIG), encoding='utf-8') as file:
      config = json.load(file)
  except (OSError, ValueError):
    return {}
  return config if isinstance(config, dict) else {}
