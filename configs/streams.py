# SPDX-License-Identifier: Apache-2.0
"""Streams: which tasks come one after the other, a row each.

  --my_config configs/l2p.py:imr_5x40

A row holds what is so with every method.  What one method has otherwise on one
stream stands in the file of the method, as `ON`, which maps names of rows to
config keys:

  def get_config(selection=''):
    stream, preset = streams.select(selection)
    config = base.get_config()
    ...  # settings of the method
    streams.lay(config, stream, ON)
    return presets.apply(config, preset)
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

import ml_collections

from promptcl.configs import names
from promptcl.configs import presets

On = Mapping[str, Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Stream:
  """A row.

  Attributes:
    about: what it is, for people.
    dataset: as in the config.
    num_tasks: likewise, of `continual`.
    num_classes: of each task.
    keys: any other keys of the config.
    like: the row that this one varies: what a method has on that holds here,
      too, unless it has something else here.
    online: each image is seen once, whatever a method or preset says.
  """

  about: str
  dataset: str
  num_tasks: int
  num_classes: int
  keys: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  like: str = ''
  online: bool = False


_DOMAINS = {'continual.scenario': 'domain', 'continual.train_mask': False}

STREAMS: dict[str, Stream] = {
    'cifar100': Stream(
        'Split CIFAR-100, 10 tasks of 10 classes', 'cifar100', 10, 10),
    'cifar100_20x5': Stream(
        '20 tasks of 5 classes', 'cifar100', 20, 5, like='cifar100'),
    'cifar100_b50_inc10': Stream(
        '50 classes first and then 10 a task: 6 tasks. LAMDA-PILOT and '
        'LibContinual know the cut as B50-inc10; for B50-inc5 add '
        '--my_config.continual.inc_cls=5', 'cifar100', 6, 10,
        {'continual.init_cls': 50, 'continual.inc_cls': 10}, like='cifar100'),
    'cifar100_online': Stream(
        'tasks as in cifar100, each image seen once', 'cifar100', 10, 10,
        like='cifar100', online=True),
    'cifar100_20x5_online': Stream(
        'tasks as in cifar100_20x5, each image seen once', 'cifar100', 20, 5,
        like='cifar100_20x5', online=True),
    'cifar100_gaussian': Stream(
        'task-agnostic: 200 episodes of a Gaussian schedule', 'cifar100', 200,
        100, {'gaussian_schedule': True, 'reinit_optimizer': False},
        like='cifar100'),
    'five_datasets': Stream(
        'CIFAR-10, MNIST, SVHN, notMNIST, Fashion-MNIST', '5datasets', 5, 10,
        {'continual.scenario': 'dataset'}),
    'imr': Stream(
        'Split ImageNet-R, 10 tasks of 20 classes', 'imagenet_r', 10, 20),
    'imr_5x40': Stream(
        '5 tasks of 40 classes', 'imagenet_r', 5, 40, like='imr'),
    'imr_20x10': Stream(
        '20 tasks of 10 classes', 'imagenet_r', 20, 10, like='imr'),
    'cub200': Stream(
        'Split CUB-200, 10 tasks of 20 classes; the official list of 5,994 '
        'training and 5,794 test images, results on other divisions are not '
        'comparable', 'cub200', 10, 20),
    'cub200_5x40': Stream(
        '5 tasks of 40 classes', 'cub200', 5, 40, like='cub200'),
    'tinyimagenet': Stream(
        'Split TinyImageNet, 10 tasks of 20 classes; the labelled validation '
        'images are the test', 'tinyimagenet', 10, 20),
    'tinyimagenet_online': Stream(
        'tasks as in tinyimagenet, each image seen once', 'tinyimagenet', 10,
        20, like='tinyimagenet', online=True),
    'core50': Stream(
        'CORe50, domain-incremental: 8 sessions of the same 50 objects',
        'core50', 8, 50, _DOMAINS),
    'core50_clean': Stream(
        'the same; with L2P a frozen backbone and each test image scored once '
        'as it is', 'core50', 8, 50, _DOMAINS, like='core50'),
    'domainnet': Stream(
        'DomainNet, domain-incremental: 6 domains of the same 345 classes. One '
        "head for all domains, as in S-Prompts' comparison; for a head per "
        'domain add --my_config.continual.domain_outputs=separate',
        'domainnet', 6, 345, _DOMAINS),
    'domainnet_5x69': Stream(
        'DomainNet, class-incremental: 5 tasks of 69 classes, all domains at '
        'once; the cut of CODA-Prompt, which itself reports 73.2 % average '
        'accuracy on it', 'domainnet', 5, 69),
    'pacs': Stream(
        'PACS, domain-incremental: 4 styles of the same 7 classes; an npz: '
        'file with domains, or a folder of a folder per domain: '
        '--my_config.dataset=folder:PACS', 'npz:pacs.npz', 4, 7, _DOMAINS),
}


def select(selection: str, *, stream: str = 'cifar100', preset: str = ''
           ) -> tuple[str, str]:
  """Stream and preset of what stands behind the colon of `--my_config`.

  Args:
    selection: names of one stream and of one preset, with a comma between, in
      any order; either may be missing.
    stream, preset: taken where `selection` has none.

  Raises:
    ValueError: a word that is neither, or two of a kind.
  """
  found = {}
  for word in filter(None, selection.split(',')):
    kind = ('stream' if word in STREAMS else
            'preset' if word in presets.PRESETS else '')
    if not kind:
      raise ValueError(
          f'unknown stream or preset {word!r}, see --list'
          + names.did_you_mean(word, (*STREAMS, *presets.PRESETS)))
    if kind in found:
      raise ValueError(f'{found[kind]} and {word} are each a {kind}; name one')
    found[kind] = word
  return found.get('stream', stream), found.get('preset', preset)


def lay(config: ml_collections.ConfigDict, stream: str, on: On) -> None:
  """Sets what a stream is, and what the method has on it."""
  row = STREAMS[stream]
  config.dataset = row.dataset
  config.continual.num_tasks = row.num_tasks
  config.continual.num_classes_per_task = row.num_classes
  presets.lay(config, row.keys)
  adjust(config, stream, on)


def adjust(config: ml_collections.ConfigDict, stream: str, on: On) -> None:
  """Sets only what a method has on a stream: first, on what that varies."""
  for name in lineage(stream):
    presets.lay(config, on.get(name, {}))
  if STREAMS[stream].online:
    config.num_epochs = 1


def lineage(stream: str) -> list[str]:
  """The row that a stream goes back to, and so on to the stream itself."""
  before = STREAMS[stream].like
  return [*(lineage(before) if before else []), stream]
