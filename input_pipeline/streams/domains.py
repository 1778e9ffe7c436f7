# SPDX-License-Identifier: Apache-2.0
"""Domain-incremental streams: the same classes, drawn or photographed anew.

Each domain of the training split is a task. Where the test split has the same
domains, each is an evaluation set; where it has others, or does not say, all of
it is scored after every task (CORe50).
"""

from collections.abc import Sequence
import dataclasses

from ml_collections import ConfigDict
import numpy as np

from promptcl.input_pipeline.read.base import Dataset
from promptcl.input_pipeline.read.base import Source
from promptcl.input_pipeline.streams import class_orders
from promptcl.input_pipeline.streams import task_stream


def plan(config: ConfigDict, dataset: Dataset) -> task_stream.Plan:
  """One task per domain.

  Args:
    config: reads `continual.{domain_order, domain_outputs}`, `reverse_task`
      (domains come last first), `subsample_rate` and the keys of a class order.
    dataset: a `base.Dataset` with domains.

  Returns:
    A `task_stream.Plan`. With `domain_outputs` 'shared' the head has one column
    per class and no task masks any. With 'separate' every domain has columns
    of its own: C = domains x classes, and `Plan.dataset` has such labels.

  Raises:
    ValueError: no domains, or an order or a test split that does not fit them.
  """
  if dataset.domain_names is None:
    raise ValueError(
        f"continual.scenario='domain' needs a data set with domains, and "
        f'{config.dataset} has none; an npz: file tells them by domain_names, '
        'train_domains and test_domains, a folder: by a second folder level')
  domains = _order(config, dataset)
  order = class_orders.class_order(config, dataset.num_classes)
  train = [_rows(config, dataset, 'train', domain) for domain in domains]
  tests = _tests(config, dataset, domains)
  if config.continual.domain_outputs == 'separate':
    dataset, order, masks = _separate(dataset, order, domains)
  else:
    masks = [np.ones(order.size, bool)] * len(domains)
  return task_stream.make_plan(
      dataset, order, masks=masks, train=train, test=list(tests.values()),
      names=list(tests))


def _order(config: ConfigDict, dataset: Dataset) -> list[int]:
  """Numbers of the training domains, in the order of their tasks."""
  present = np.unique(dataset.train.domains).tolist()
  names = [dataset.domain_names[domain] for domain in present]
  listed = list(config.continual.domain_order) or names
  if sorted(listed) != sorted(names):
    unknown, missing = set(listed) - set(names), set(names) - set(listed)
    problem = (f'has no training images of {sorted(unknown)}' if unknown else
               f'has {sorted(missing)} as well' if missing else
               'wants each once')
    raise ValueError(
        f'continual.domain_order lists {listed}, but {config.dataset} '
        f'{problem}; list each of {", ".join(names)}')
  domains = [present[names.index(name)] for name in listed]
  return domains[::-1] if config.reverse_task else domains


def _tests(config: ConfigDict, dataset: Dataset, domains: Sequence[int]
           ) -> dict[str, np.ndarray]:
  """Rows of the test split of each evaluation set, by its name."""
  if not _tested(config, dataset):
    return {'all': np.arange(
        len(task_stream.used(config, dataset.test.labels)))}
  return {dataset.domain_names[domain]: _rows(config, dataset, 'test', domain)
          for domain in domains}


def _tested(config: ConfigDict, dataset: Dataset) -> bool:
  """Whether the test split has the training domains, rather than others."""
  if dataset.test.domains is None:
    return False
  train, test = (set(np.unique(source.domains).tolist())
                 for source in (dataset.train, dataset.test))
  if train & test and train != test:
    names = sorted(dataset.domain_names[domain] for domain in train ^ test)
    raise ValueError(
        f'{config.dataset}: the domains {names} have images in one of the '
        'splits train and test only; complete the data set or leave them out')
  return train == test


def _rows(config: ConfigDict, dataset: Dataset, split: str, domain: int
          ) -> np.ndarray:
  """Rows of a split that are of a domain, ascending."""
  used = task_stream.used(config, getattr(dataset, split).domains)
  rows = np.flatnonzero(used == domain)
  if not rows.size:
    raise ValueError(
        f'domain {dataset.domain_names[domain]!r} of {config.dataset} has no '
        f'{split} images among the {used.size} examples used (subsample_rate='
        f'{config.subsample_rate})')
  return rows


def _separate(dataset: Dataset, order: np.ndarray, domains: Sequence[int]
              ) -> tuple[Dataset, np.ndarray, list[np.ndarray]]:
  """Gives every domain labels and head columns of its own.

  Args:
    dataset: a `base.Dataset`.
    order: int64 [C], class order within a domain.
    domains: numbers of the training domains, in the order of their tasks.

  Returns:
    (dataset, int64 [D * C], list of bool [D * C]): label d * C + c stands for
    class c of the d-th training domain; class order; columns of each task.

  Raises:
    ValueError: the test images are of other domains.
  """
  used, num_classes = np.unique(domains), order.size
  if not np.array_equal(used, np.unique(dataset.test.domains)):
    raise ValueError(
        f"continual.domain_outputs='separate' needs test images of the "
        f"training domains, which {dataset.name} lacks; set it to 'shared'")
  offsets = num_classes * np.searchsorted(used, domains)
  names = [f'{dataset.domain_names[domain]}/{name}'
           for domain in used for name in dataset.class_names]
  train, test = (
      _Relabelled(source, num_classes * np.searchsorted(used, source.domains)
                  + source.labels) for source in (dataset.train, dataset.test))
  relabelled = dataclasses.replace(
      dataset, train=train, test=test, num_classes=len(names),
      class_names=tuple(names))
  masks = np.repeat(np.eye(used.size, dtype=bool), num_classes, axis=1)
  return relabelled, (offsets[:, None] + order).reshape(-1), list(masks)


class _Relabelled:
  """A source whose labels are others."""

  def __init__(self, source: Source, labels: np.ndarray):
    self._source = source
    self.labels = labels.astype(np.int32)
    self.domains = source.domains

  def __len__(self) -> int:
    return len(self._source)

  def image(self, index: int) -> np.ndarray:
    return self._source.image(index)
