# SPDX-License-Identifier: Apache-2.0
"""What `accelerator.py` measures, in the order of its rows."""

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence

import ml_collections

from benchmarks.accelerator_table import Row as Case
from promptcl.configs import base as defaults
from promptcl.models.networks import backbones
from promptcl.train_lib.startup import config_values

BASE = 'base: train'
# Keys of a config that get a row for each value but the default, as soon as
# configs/base.py has them.
KEYS = ('attention', 'device_views')
# Least number of steps and of seconds that are timed, rows of the matrices,
# float32 that are copied, other keys of the config.
FULL = dict(steps=3, seconds=1.5, matrix=8192, copied=2**28, changes={})
SMALL = dict(model='testing', image_size=16, batch=4, steps=1, seconds=0.0,
             matrix=128, copied=2**18, changes={
                 'generation.match_width': 64})  # for PGT's 40 anchors


def ceilings(options: argparse.Namespace) -> Iterator[Case]:
  """What to measure of the device itself, see `ceilings.measure`."""
  for name, dtype, precision in (
      ('bfloat16', 'bfloat16', None), ('float32', 'float32', None),
      ('float32 in full', 'float32', 'float32')):
    yield dict(name=f'product, {name}', ceiling='product', dtype=dtype,
               precision=precision, size=options.matrix,
               seconds=options.seconds)
  yield dict(name='copy', ceiling='copy', size=options.copied,
             seconds=options.seconds)


def changes(batch: int, ways: Iterable[tuple[str, object]]
            ) -> Iterator[tuple[str, Case]]:
  """Names of the rows and what each changes in the base case, by interest.

  Args:
    batch: images per device.
    ways: keys of a config and their values, see `other_ways`.
  """
  yield BASE, {}
  yield 'base: query', dict(phase='query')
  yield 'base: evaluation', dict(phase='eval')
  for key, value in ways:
    yield f'{key} {value}', dict(changes={key: value})
  yield 'grad_clip_scope trainable', dict(scope='trainable')
  yield 'float32', dict(dtype='float32')
  yield f'batch {batch * 2}', dict(batch=batch * 2)
  yield 'DualPrompt', dict(recipe='cifar100_dualprompt')
  yield 'PGT', dict(recipe='pgt')
  yield 'VQ-Prompt', dict(recipe='vq_prompt')
  half = max(1, batch // 2)
  yield f'batch {half}', dict(batch=half)


def other_ways(config: ml_collections.ConfigDict,
               choices: Mapping[str, Sequence[object]]
               ) -> Iterator[tuple[str, object]]:
  """Keys among `KEYS` that a config has, with each value it does not have."""
  for key in KEYS:
    if key in config:
      values = choices.get(key, (False, True))
      yield from ((key, v) for v in values if v != config[key])


def cases(options: argparse.Namespace) -> list[Case]:
  """What to measure, in the order of the rows.

  Raises:
    ValueError: there is no such model, or no such row.
  """
  if options.model not in backbones.VARIANTS:
    raise ValueError(f'there is no model {options.model!r}')
  base = dict(recipe='cifar100_l2p', phase='train', scope=None,
              dtype='bfloat16', model=options.model,
              image_size=options.image_size, batch=options.batch,
              steps=options.steps, seconds=options.seconds)
  ways = other_ways(defaults.get_config(), config_values.rules().choices)
  found = list(ceilings(options))
  for name, change in changes(options.batch, ways):
    keys = options.changes | change.get('changes', {})
    found.append(dict(name=name) | base | change | dict(changes=keys))
  wanted = [case for case in found if not options.rows or any(
      text in case['name'] for text in options.rows)]
  if not wanted:
    raise ValueError(f'no row has {" or ".join(options.rows)} in its name')
  return wanted
