# SPDX-License-Identifier: Apache-2.0
"""Names of recipes: those there are, and what older ones are now."""

from collections.abc import Callable, Iterable
import difflib
import pathlib

# Files of this folder that are no recipes.
_PARTS = ('__init__', 'base', 'listing', 'names', 'presets', 'streams')

# Recipes that were files of their own -> the method's file and its stream.
MOVED = {
    'cifar100_20x5_dualprompt': 'dualprompt:cifar100_20x5',
    'cifar100_20x5_dualprompt_pgp': 'dualprompt_pgp:cifar100_20x5',
    'cifar100_20x5_l2p': 'l2p:cifar100_20x5',
    'cifar100_20x5_l2p_pgp': 'l2p_pgp:cifar100_20x5',
    'cifar100_20x5_online_dualprompt_pgp':
        'dualprompt_pgp:cifar100_20x5_online',
    'cifar100_20x5_online_l2p_pgp': 'l2p_pgp:cifar100_20x5_online',
    'cifar100_b50_inc10_dualprompt': 'dualprompt:cifar100_b50_inc10',
    'cifar100_b50_inc10_l2p': 'l2p:cifar100_b50_inc10',
    'cifar100_clip_pgp': 'clip_pgp:cifar100',
    'cifar100_clip_zeroshot': 'clip_zeroshot:cifar100',
    'cifar100_convprompt': 'convprompt:cifar100',
    'cifar100_dualprompt_pgp': 'dualprompt_pgp:cifar100',
    'cifar100_it_prompt': 'it_prompt:cifar100',
    'cifar100_it_prompt_vision': 'it_prompt_vision:cifar100',
    'cifar100_l2p_pgp': 'l2p_pgp:cifar100',
    'cifar100_online_dualprompt': 'dualprompt:cifar100_online',
    'cifar100_online_dualprompt_pgp': 'dualprompt_pgp:cifar100_online',
    'cifar100_online_l2p': 'l2p:cifar100_online',
    'cifar100_online_l2p_pgp': 'l2p_pgp:cifar100_online',
    'cifar100_pgt': 'pgt:cifar100',
    'cifar100_vq_prompt': 'vq_prompt:cifar100',
    'core50_clean_l2p': 'l2p:core50_clean',
    'cub200_10x20_dualprompt': 'dualprompt:cub200',
    'cub200_10x20_l2p': 'l2p:cub200',
    'cub200_5x40_dualprompt': 'dualprompt:cub200_5x40',
    'cub200_5x40_dualprompt_pgp': 'dualprompt_pgp:cub200_5x40',
    'cub200_5x40_l2p': 'l2p:cub200_5x40',
    'cub200_5x40_l2p_pgp': 'l2p_pgp:cub200_5x40',
    'cub200_convprompt': 'convprompt:cub200',
    'cub200_it_prompt': 'it_prompt:cub200',
    'cub200_pgt': 'pgt:cub200',
    'cub200_vq_prompt': 'vq_prompt:cub200',
    'domainnet_5x69_dualprompt': 'dualprompt:domainnet_5x69',
    'domainnet_5x69_l2p': 'l2p:domainnet_5x69',
    'domainnet_l2p': 'l2p:domainnet',
    'domainnet_pgt': 'pgt:domainnet',
    'imr_20x10_dualprompt': 'dualprompt:imr_20x10',
    'imr_20x10_l2p': 'l2p:imr_20x10',
    'imr_20x10_vq_prompt': 'vq_prompt:imr_20x10',
    'imr_5x40_dualprompt': 'dualprompt:imr_5x40',
    'imr_5x40_l2p': 'l2p:imr_5x40',
    'imr_5x40_vq_prompt': 'vq_prompt:imr_5x40',
    'imr_convprompt': 'convprompt:imr',
    'imr_dualprompt_pgp': 'dualprompt_pgp:imr',
    'imr_it_prompt': 'it_prompt:imr',
    'imr_l2p': 'l2p:imr',
    'imr_l2p_pgp': 'l2p_pgp:imr',
    'imr_pgt': 'pgt:imr',
    'imr_vq_prompt': 'vq_prompt:imr',
    'pacs_l2p': 'l2p:pacs',
    'tinyimagenet_dualprompt': 'dualprompt:tinyimagenet',
    'tinyimagenet_dualprompt_pgp': 'dualprompt_pgp:tinyimagenet',
    'tinyimagenet_l2p': 'l2p:tinyimagenet',
    'tinyimagenet_l2p_pgp': 'l2p_pgp:tinyimagenet',
    'tinyimagenet_online_dualprompt_pgp':
        'dualprompt_pgp:tinyimagenet_online',
    'tinyimagenet_online_l2p': 'l2p:tinyimagenet_online',
    'tinyimagenet_online_l2p_pgp': 'l2p_pgp:tinyimagenet_online',
}


def available() -> list[str]:
  """Names of all files that are recipes, methods among them."""
  return sorted(path.stem for path in pathlib.Path(__file__).parent.glob('*.py')
                if path.stem not in _PARTS)


def split(recipe: str, *words: str) -> tuple[str, str]:
  """File and selection of 'l2p:imr' and words after it: 'l2p', 'imr,...'."""
  name, _, selection = recipe.partition(':')
  return name, ','.join(filter(None, (selection, *words)))


def typed(recipe: str, *words: str) -> str:
  """'l2p:imr', and words after it, as one types it: 'configs/l2p.py:imr'."""
  name, selection = split(recipe, *words)
  return f'configs/{name}.py' + (f':{selection}' if selection else '')


def instead(name: str, selection: str = '') -> str:
  """One line on what to type instead of a recipe that is not there."""
  if name in MOVED:
    return f'{typed(name)} is now {typed(MOVED[name], selection)}'
  if name in available():
    return f'the recipe {name} is typed {typed(name, selection)}'
  return f'there is no recipe {typed(name)}, see --list' + did_you_mean(
      name, (*available(), *MOVED), lambda near: typed(MOVED.get(near, near)))


def did_you_mean(word: str, known: Iterable[str],
                 told: Callable[[str], str] = str) -> str:
  """'; did you mean X?' for the nearest word, or ''."""
  near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
  return f'; did you mean {told(near[0])}?' if near else ''
