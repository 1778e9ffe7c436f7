# SPDX-License-Identifier: Apache-2.0
"""What each key of a config may hold, by itself.

How keys go together is checked in `startup.py` and where they are read.
"""

from collections.abc import Iterator
import functools
import math
import re
from typing import Any

from ml_collections import ConfigDict

from promptcl.configs import base as defaults
from promptcl.configs import presets
from promptcl.models import classifier
from promptcl.models.heads import heads
from promptcl.models.networks import backbones
from promptcl.models.parts import options
from promptcl.train_lib.records import metrics
from promptcl.train_lib.startup import controls
from promptcl.train_lib.steps import optimizer as optimizer_lib

_SHARED = options.Section('', {}, choices={
    'vit_classifier': classifier.READOUTS,
    'optim': optimizer_lib.OPTIMIZERS,
    'learning_rate_schedule': optimizer_lib.SCHEDULES,
    'grad_clip_scope': ('all', 'trainable'),
    'eval_selection': ('config', 'batch', 'per_sample'),
    'eval_classes': ('all', 'seen'),
    'input_range': ('auto', 'zero_one', 'minus_one_one', 'imagenet', 'clip',
                    'dataset', 'weights'),
    'transform': ('jax', 'torch_port', 'libcontinual', 'coda', 'torchvision',
                  'clip_pgp', 'clean', 'clip'),
    'eval_order': ('stored', 'shuffled'),
    'prompt_choice': ('key', 'random', 'oracle'),
    'continual.scenario': ('class', 'domain', 'dataset'),
    'continual.order_rule': ('numpy', 'numpy_legacy', 'python'),
    'continual.domain_outputs': ('shared', 'separate'),
    'gaussian_mode': ('', 'jax_released', 'paper'),
    'head': heads.HEADS,
    'head_init': tuple(heads.KERNEL_INITS),
    'augmentation': ('crop_flip', 'crop', 'none'),
    'dtype': ('float32', 'bfloat16'),
    'model_name': tuple(backbones.VARIANTS),
    'comparisons': controls.NAMES,
    'headline_metrics': metrics.NAMES,
    'preset': ('', *presets.PRESETS),
}, positive=(
    'per_device_batch_size', 'num_epochs', 'input_size', 'resize_size',
    'continual.num_tasks', 'continual.num_classes_per_task', 'data_threads',
    'temperature', 'text.context_tokens', 'head_centroids',
), not_negative=(
    'seed', 'learning_rate', 'min_learning_rate', 'warmup_epochs',
    'sgd_momentum', 'weight_decay', 'gradient_decay', 'grad_clip_max_norm',
    'checkpoint_every_steps', 'continual.init_cls', 'continual.inc_cls',
    'eval_cache_mib', 'freeze_cosine.freeze_steps',
    'freeze_cosine.steps_per_epoch', 'freeze_cosine.first_step_factor',
), at_most={
    'data_threads': 256, 'sgd_momentum': 1.0, 'subsample_rate': 100,
}, items={
    'freeze_part': str, 'optim_wd_ignore': str, 'split_files': str,
    'comparisons': str, 'headline_metrics': str, 'continual.domain_order': str,
    'continual.class_order': int, 'thaw': str, 'zero_shot.datasets': str})
_INT_LIMIT = 2**31  # what steps and seeds are on the devices


def rules() -> options.Section:
  """What keys may hold: those that methods share and those of all sections."""
  return options.joined((_SHARED, *defaults.sections()))


def check(config: ConfigDict) -> None:
  """Refuses values that no run can have.

  Args:
    config: expanded, so types are right but for the items of lists.

  Raises:
    ValueError: one line, names the key.
  """
  known, get = rules(), functools.partial(_get, config)
  for key, value in leaves(config):
    _check_plain(key, value)
  for key, kind in known.items.items():
    for item in get(key):
      if type(item) is not kind:
        raise ValueError(f'config.{key} lists {item!r}, must list '
                         f'{kind.__name__} only')
  for key, choices in known.choices.items():
    value = get(key)
    for item in value if isinstance(value, tuple) else (value,):
      if item not in choices:
        raise ValueError(f'config.{key} is {item!r}, must be one of '
                         f'{", ".join(str(c) or repr(c) for c in choices)}')
  for key in known.positive:
    if get(key) <= 0:
      raise ValueError(f'config.{key} is {get(key)}, must be positive')
  for key in known.not_negative:
    if get(key) < 0:
      raise ValueError(f'config.{key} is {get(key)}, must not be negative')
  for key in known.shares:
    if not 0 <= get(key) < 1:
      raise ValueError(f'config.{key} is {get(key)}, must be in [0, 1)')
  for key, most in known.at_most.items():
    if get(key) > most:
      raise ValueError(f'config.{key} is {get(key)}, must be at most {most}')
  _check_own_rules(config)


def _check_own_rules(config: ConfigDict) -> None:
  """Keys whose values no table describes."""
  for key in 'continual.rand_seed', 'num_eval_steps', 'subsample_rate':
    value = _get(config, key)
    zero_counts = key == 'continual.rand_seed'
    if value < -1 or (value == 0 and not zero_counts):
      raise ValueError(f'config.{key} is {value}, must be -1 or '
                       f'{"at least 0" if zero_counts else "positive"}')
  if config.init_sha256 and not re.fullmatch('[0-9a-fA-F]{64}',
                                             config.init_sha256):
    raise ValueError(f'config.init_sha256 is {config.init_sha256!r}, must be '
                     'the 64 hexadecimal digits of a SHA-256')
  for pattern in config.thaw:
    _check_pattern(f'config.thaw lists {pattern!r}', pattern)
  for key in 'learning_rate_multipliers', 'later_rate_multipliers':
    for rule in config[key]:
      _check_multiplier(key, rule)


def _check_multiplier(key: str, rule: object) -> None:
  """A pair of a regular expression and a factor."""
  problem = (f'config.{key} lists {rule!r}, must list pairs (regular '
             'expression, factor)')
  if not isinstance(rule, (list, tuple)) or len(rule) != 2:
    raise ValueError(problem)
  pattern, factor = rule
  if not isinstance(pattern, str) or isinstance(factor, bool) or (
      not isinstance(factor, (int, float))) or not math.isfinite(factor):
    raise ValueError(problem)
  _check_pattern(problem, pattern)


def _check_pattern(problem: str, pattern: str) -> None:
  """A regular expression."""
  try:
    re.compile(pattern)
  except re.error as e:
    raise ValueError(f'{problem}; {pattern!r}: {e}') from e


def _check_plain(key: str, value: object) -> None:
  """What holds for every number and every text."""
  for item in value if isinstance(value, tuple) else (value,):
    if isinstance(item, float) and not math.isfinite(item):
      raise ValueError(f'config.{key} is {item}, must be finite')
    if isinstance(item, int) and not -_INT_LIMIT <= item < _INT_LIMIT:
      raise ValueError(f'config.{key} is {item}, must be below 2^31')
    if isinstance(item, str) and not item.isprintable():
      raise ValueError(f'config.{key} {item!r} holds a control character')


def leaves(config: ConfigDict, prefix: str = ''
           ) -> Iterator[tuple[str, object]]:
  """Pairs of dotted key and value, groups taken apart."""
  for key, value in config.items():
    if hasattr(value, 'items'):
      yield from leaves(value, f'{prefix}{key}.')
    else:
      yield prefix + key, value


def _get(config: ConfigDict, key: str) -> Any:
  for name in key.split('.'):
    config = config[name]
  return config
