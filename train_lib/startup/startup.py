# SPDX-License-Identifier: Apache-2.0
"""From what the user typed to a complete, checked configuration.

Everything here runs before the first compilation and raises `ValueError` or
`FileNotFoundError` with one line that says what is wrong and what to do.
"""

import difflib
from typing import Any

from ml_collections import ConfigDict
from ml_collections import FrozenConfigDict

from promptcl import input_pipeline
from promptcl.configs import base as defaults
from promptcl.models import prompts
from promptcl.models.networks import backbones
from promptcl.models.parts import options
from promptcl.models.parts import pool_options
from promptcl.models.weights import pretrained
from promptcl.train_lib import around
from promptcl.train_lib.startup import config_values


def expand(config: ConfigDict) -> ConfigDict:
  """Lays `config` over the defaults and settles the method.

  Args:
    config: from a recipe of ours or a file written for google-research/l2p.

  Returns:
    A new frozen config with every key of `configs/base.py`.

  Raises:
    ValueError: an unknown key (names the nearest known one) or a wrong type.
    FileNotFoundError, ValueError, OSError: input_range is 'weights' and the
      weights cannot be fetched, read or told.
  """
  if not isinstance(config, (ConfigDict,
                             FrozenConfigDict)):
    raise ValueError('get_config of the recipe must return a ConfigDict, not '
                     f'{config!r}')
  full = defaults.get_config()
  with full.ignore_type():
    _overlay(full, config, '')
  if not full.method:
    full.method = 'dualprompt' if full.use_g_prompt else 'l2p'
  if full.method == 'none':
    full.use_e_prompt = full.use_g_prompt = False
  if full.dataset == 'core50' and 'scenario' not in config.get(
      'continual', {}):  # its sessions are domains, in the original always
    full.continual.scenario = 'domain'
  if full.input_range == 'weights' and full.init_checkpoint and (
      full.model_name in backbones.VARIANTS):  # else `check` complains
    full.input_range = pretrained.input_range(full)
  return FrozenConfigDict(full)


def notes(config: ConfigDict, expanded: ConfigDict) -> list[str]:
  """What the user should know before the run, one line each.

  Args:
    config: as the user gave it.
    expanded: from `expand`.
  """
  lines = []
  if ignored := _unread(config):
    lines.append('keys without effect here: ' + ', '.join(ignored))
  if expanded.use_g_prompt and not expanded.use_prefix_tune_for_g_prompt:
    layers = (set(expanded.g_prompt_layer_idx)
              - pool_options.token_layers(expanded))
    if layers:
      lines.append(
          f'G-prompts as tokens are dropped in layers {sorted(layers)}, which '
          'have no E-prompts as tokens, and the read-out still counts them, as '
          'in the original')
  if expanded.zero_shot.measure and not expanded.zero_shot.datasets:
    lines.append('zero_shot.datasets is empty: zero-shot accuracy is measured '
                 'on classes still to come only')
  return lines


def _unread(config: ConfigDict, prefix: str = '') -> list[str]:
  """Keys of the original in `config` that change nothing here."""
  found = []
  for name in config:
    if name in defaults.UNREAD:
      found.append(prefix + name)
    elif isinstance(config[name], ConfigDict):
      found += _unread(config[name], f'{prefix}{name}.')
  return found


def _overlay(full: ConfigDict, config: ConfigDict, prefix: str) -> None:
  """Copies every value of `config` into `full`, checking names and types."""
  for name in config:
    key, value = prefix + name, config[name]
    if name not in full:
      if name not in defaults.UNREAD:
        raise ValueError(f'config.{key} is unknown{_nearest(name, full)}')
    elif isinstance(full[name], ConfigDict):
      if not isinstance(value, ConfigDict):
        raise ValueError(f'config.{key} must be a group of keys, not {value!r}')
      _overlay(full[name], value, key + '.')
    else:
      full[name] = _coerced(key, value, full[name])


def _nearest(name: str, full: ConfigDict) -> str:
  """The key that was probably meant: of this group, or anywhere."""
  everywhere = {key.rpartition('.')[2]: key
                for key, _ in config_values.leaves(defaults.get_config())}
  for names in {n: n for n in full}, everywhere:
    if near := difflib.get_close_matches(name, names, n=1, cutoff=0.6):
      return f'; did you mean {names[near[0]]}?'
  return ''


def _coerced(key: str, value: Any, default: Any) -> Any:
  """`value` in the default's type, or an error."""
  if isinstance(default, tuple):
    if isinstance(value, (list, tuple)):
      return tuple(value)
  elif isinstance(default, bool) or isinstance(value, bool):
    if isinstance(default, bool) and isinstance(value, bool):
      return value
  elif isinstance(default, float):
    if isinstance(value, (int, float)):
      return float(value)
    if value is None:
      return 0.0
  elif default is None:
    if value is None or isinstance(value, str):
      return value
  elif isinstance(value, type(default)):
    return value
  wanted = 'str' if default is None else type(default).__name__
  raise ValueError(f'config.{key} must be {wanted}, not {value!r}')


def check(config: FrozenConfigDict) -> None:
  """Refuses settings that cannot run, by themselves or together.

  Raises:
    ValueError: one line, names the key.
  """
  config_values.check(config)
  if config.input_size > config.resize_size:
    raise ValueError(f'config.input_size {config.input_size} (the crop) is '
                     f'larger than resize_size {config.resize_size}')
  if config.warmup_epochs >= config.num_epochs:
    raise ValueError(f'config.warmup_epochs {config.warmup_epochs} leaves none '
                     f'of the {config.num_epochs} epochs')
  _check_freeze(config)
  if config.init_checkpoint is None:
    raise ValueError(
        'config.init_checkpoint is not set: prompts need a pretrained ViT; '
        'give the path of an .npz, or random for random weights')
  if config.init_checkpoint == pretrained.RANDOM and config.init_sha256:
    raise ValueError('config.init_sha256 is set, but config.init_checkpoint '
                     'random reads no file; clear one of them')
  input_pipeline.check_stream(config)
  if not config.use_cls_token:
    raise ValueError('config.use_cls_token must be True: a ViT without class '
                     'token is not supported')
  if config.eval_until_own_task and (
      config.gaussian_schedule or config.continual.scenario == 'domain'):
    raise ValueError('config.eval_until_own_task needs tasks with classes of '
                     'their own; set it to False')
  prompts.check(config)
  for section in options.offered(around):
    section.check(config)


def _check_freeze(config: ConfigDict) -> None:
  """The cosine of `freeze_cosine` needs steps, as far as they are known."""
  freeze = config.freeze_cosine
  steps = freeze.steps_per_epoch * (config.num_epochs - config.warmup_epochs)
  if config.learning_rate_schedule != 'freeze_cosine' or not steps:
    return
  if freeze.freeze_steps >= steps:
    raise ValueError(f'config.freeze_cosine.freeze_steps {freeze.freeze_steps} '
                     f'leaves none of the {steps} steps that num_epochs and '
                     'freeze_cosine.steps_per_epoch make behind the warm-up')
