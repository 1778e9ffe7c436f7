# SPDX-License-Identifier: Apache-2.0
"""Options that a method, or a part around methods, owns: defaults and rules.

  OPTIONS = options.Section('vq', {
      'layers': (),  # prompted blocks; (): the first five
      'length': 8,  # tokens
  }, positive=('length',), items={'layers': int})

A file that offers `OPTIONS` needs no other: `configs/base.py` finds it, so that
`config.vq.length` is there for recipes and on the command line, and its rules
are checked with all others before a run.
"""

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import importlib
import pkgutil
from types import ModuleType
from typing import Any

import ml_collections


def anything(config: ml_collections.ConfigDict) -> None:
  """The check of a section whose keys all go together."""
  del config


@dataclasses.dataclass(frozen=True)
class Section:
  """A group of keys in a config, and what they may hold beside their type.

  Attributes:
    name: of the group, `config.NAME`; '' for keys at the top.
    defaults: of all its keys, which also tell their types; a dot in a key
      stands for a group in it.
    choices: all values, or items of a tuple, that a key may have.
    positive, not_negative: keys of numbers.
    shares: keys of numbers in [0, 1).
    at_most: largest value of a key.
    items: type of the items of a tuple.
    check: `check(config)`, of the whole expanded config where the method runs
      that offers the section; raises ValueError, one line that names the key,
      if keys do not go together.  Called for parts around methods in every run.
  """

  name: str
  defaults: Mapping[str, Any]
  choices: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
  positive: tuple[str, ...] = ()
  not_negative: tuple[str, ...] = ()
  shares: tuple[str, ...] = ()
  at_most: Mapping[str, float] = dataclasses.field(default_factory=dict)
  items: Mapping[str, type] = dataclasses.field(default_factory=dict)
  check: Callable[[ml_collections.ConfigDict], None] = anything

  def at_the_top(self) -> 'Section':
    """The same with full keys, `vq.length`."""
    full = lambda key: f'{self.name}.{key}' if self.name else key
    table = lambda found: {full(key): value for key, value in found.items()}
    return dataclasses.replace(
        self, name='', defaults=table(self.defaults),
        choices=table(self.choices), positive=(*map(full, self.positive),),
        not_negative=(*map(full, self.not_negative),),
        shares=(*map(full, self.shares),), at_most=table(self.at_most),
        items=table(self.items))


def joined(sections: Iterable[Section]) -> Section:
  """Keys and rules of all, with full keys; no `check`.

  Raises:
    ValueError: two sections have a key in common.
  """
  every = [section.at_the_top() for section in sections]
  counts = collections.Counter(key for each in every for key in each.defaults)
  if twice := [key for key, count in counts.items() if count > 1]:
    raise ValueError(f'two sections both offer config.{twice[0]}')
  table = lambda name: {key: value for each in every
                        for key, value in getattr(each, name).items()}
  keys = lambda name: tuple(
      key for each in every for key in getattr(each, name))
  return Section(
      '', table('defaults'), choices=table('choices'),
      positive=keys('positive'), not_negative=keys('not_negative'),
      shares=keys('shares'), at_most=table('at_most'), items=table('items'))


def mount(config: ml_collections.ConfigDict, sections: Iterable[Section]
          ) -> None:
  """Adds the keys of sections to a config that has none of them.

  Raises:
    ValueError: it has a key or a group of that name.
  """
  for key, value in joined(sections).defaults.items():
    *groups, name = key.split('.')
    group = config
    for each in groups:
      if each not in group:
        group[each] = ml_collections.ConfigDict()
      group = group[each]
    if name in group:
      raise ValueError(f'config.{key} is there already')
    group[name] = value


def modules(package: ModuleType) -> dict[str, ModuleType]:
  """The files of a package by name, imported, in alphabetical order."""
  names = sorted(found.name for found in pkgutil.iter_modules(package.__path__))
  return {name: importlib.import_module(f'{package.__name__}.{name}')
          for name in names}


def offered(package: ModuleType) -> tuple[Section, ...]:
  """Sections that files of a package offer, each once.

  Raises:
    ValueError: two different ones have the same name.
  """
  found: dict[str, Section] = {}
  for module in modules(package).values():
    section = getattr(module, 'OPTIONS', None)
    if section is not None and (
        found.setdefault(section.name, section) is not section):
      raise ValueError(f'two files of {package.__name__} both offer '
                       f'config.{section.name}')
  return tuple(found.values())
