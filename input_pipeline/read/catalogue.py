# SPDX-License-Identifier: Apache-2.0
"""The data sets that have a name: rows of `SPECS`, read through TFDS.

An image data set of TFDS's own catalogue is added by one row; what TFDS lacks
has a builder under `builders/`.
"""

from collections.abc import Sequence
import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from promptcl.input_pipeline.read import base
from promptcl.input_pipeline.read import imagenet_r
from promptcl.input_pipeline.read import preparation
from promptcl.input_pipeline.read import sources

if TYPE_CHECKING:
  import tensorflow_datasets as tfds


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
  """A TFDS data set of labelled pictures.

  Attributes:
    builder: its name in TFDS, or one of `preparation.OWN`.
    num_classes: number of labels.
    mean: per channel over the training split, in [0, 1]; None: not known.
    std: likewise.
    train_split: TFDS split.
    test_split: TFDS split.
    sizes: published number of training and test images; None: not sure.
    labels: those of the builder's labels that occur; None: all of them.
    class_names: where the builder's are none; (): the builder's.
    name_feature: text feature that holds the name instead, or ''.
    domains: TFDS configurations that are the domains; (): one data set.
    probe: an address on the host of the files, where TFDS does not list any.
  """

  builder: str
  num_classes: int
  mean: tuple[float, float, float] | None = None
  std: tuple[float, float, float] | None = None
  train_split: str = 'train'
  test_split: str = 'test'
  sizes: tuple[int, int] | None = None
  labels: tuple[int, ...] | None = None
  class_names: tuple[str, ...] = ()
  name_feature: str = ''
  domains: tuple[str, ...] = ()
  probe: str = ''


SPECS = {
    'cifar10': DatasetSpec(
        'cifar10', 10, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616),
        sizes=(50000, 10000)),
    'cifar100': DatasetSpec(
        'cifar100', 100, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762),
        sizes=(50000, 10000)),
    # Sessions are domains; those of the test are others than in training.
    'core50': DatasetSpec('core50', 50, sizes=(119894, 44972)),
    'cub200': DatasetSpec('caltech_birds2011', 200, sizes=(5994, 5794),
                          name_feature='label_name'),
    'domainnet': DatasetSpec(
        'domainnet', 345, sizes=(409832, 176743),
        domains=('clipart', 'infograph', 'painting', 'quickdraw', 'real',
                 'sketch'),
        probe='http://csr.bu.edu/ftp/visda/2019/multi-source/'),
    'fashion_mnist': DatasetSpec(
        'fashion_mnist', 10, (0.2860,) * 3, (0.3530,) * 3,
        sizes=(60000, 10000)),
    # Released undivided, as 'test'; in stored order, as google-research/l2p.
    'imagenet_r': DatasetSpec(
        'imagenet_r', 200, train_split='test[:80%]', test_split='test[80%:]',
        sizes=(24000, 6000), labels=imagenet_r.LABELS,
        class_names=imagenet_r.NAMES),
    'kmnist': DatasetSpec('kmnist', 10, sizes=(60000, 10000)),
    'mnist': DatasetSpec(
        'mnist', 10, (0.1307,) * 3, (0.3081,) * 3, sizes=(60000, 10000)),
    'notmnist': DatasetSpec('notmnist', 10),
    'svhn_cropped': DatasetSpec(
        'svhn_cropped', 10, (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970),
        sizes=(73257, 26032)),
    'tinyimagenet': DatasetSpec(
        'tinyimagenet', 200, (0.4802, 0.4481, 0.3975),
        (0.2770, 0.2691, 0.2821), sizes=(100000, 10000)),
}


def load(name: str, config: base.Settings, *, fetch: bool = True
         ) -> base.Dataset:
  """Opens a row of `SPECS`.

  Args:
    name: its key.
    config: reads `data_dir` and `manual_dir`.
    fetch: whether missing data are downloaded and prepared.

  Returns:
    A `base.Dataset`.

  Raises:
    FileNotFoundError: the data, or those of some domains, are not there.
    ValueError: they are damaged.
  """
  spec = SPECS[name]
  builders = _builders(spec, config, fetch)
  features = builders[0].info.features
  domain_names = spec.domains or None
  if 'domain' in features:
    domain_names = tuple(features['domain'].names)
  train, test = (_source(spec, builders, split)
                 for split in (spec.train_split, spec.test_split))
  names = spec.class_names or tuple(features['label'].names)
  if spec.name_feature:
    names = train.names(spec.name_feature)
  return base.Dataset(
      name=name, train=train, test=test, num_classes=spec.num_classes,
      class_names=names, domain_names=domain_names,
      mean=None if spec.mean is None else np.float32(spec.mean),
      std=None if spec.std is None else np.float32(spec.std),
      notes=tuple(n for b in builders for n in preparation.notes(b)))


def _builders(spec: DatasetSpec, config: base.Settings, fetch: bool
              ) -> list['tfds.core.DatasetBuilder']:
  """One prepared builder, or one for each domain."""
  names = [f'{spec.builder}/{d}' for d in spec.domains] or [spec.builder]
  builders, missing = [], []
  for name in names:
    try:
      builders.append(preparation.prepared_builder(
          name, config, fetch=fetch, probe=spec.probe))
    except FileNotFoundError as e:
      if len(names) == 1 or fetch:  # the next one would hardly fare better
        raise
      missing.append((name.partition('/')[2], e))
  if missing:
    domains = ', '.join(domain for domain, _ in missing)
    raise FileNotFoundError(
        f'{len(missing)} of the {len(names)} domains of {spec.builder} are '
        f'not there ({domains}); where there is a network, run: '
        f'{preparation.command(spec.builder, config)}') from missing[0][1]
  return builders


def _source(spec: DatasetSpec, builders: Sequence['tfds.core.DatasetBuilder'],
            split: str) -> base.Source:
  members = [sources.TfdsSource(builder, split) for builder in builders]
  if spec.domains:
    return sources.JoinedSource(members, number_domains=True)
  if spec.labels:
    return sources.RelabelledSource(members[0], spec.labels)
  return members[0]
