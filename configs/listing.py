# SPDX-License-Identifier: Apache-2.0
"""What one may give as `--my_config`: the text of `main.py --list`."""

from collections.abc import Iterable
import importlib
import textwrap
from types import ModuleType

from promptcl.configs import names
from promptcl.configs import presets
from promptcl.configs import streams

_HEAD = """\
What to type as --my_config:
  configs/RECIPE.py                 one of the recipes below, or your own
  configs/RECIPE.py:PRESET          under a preset
  configs/METHOD.py:STREAM          a method on a stream
  configs/METHOD.py:STREAM,PRESET   on a stream, under a preset
Left out, STREAM is cifar100, and PRESET none or what the file says."""


def text() -> str:
  """All recipes, methods, streams and presets."""
  return '\n\n'.join((
      _HEAD,
      _section('Recipes, offline and of google-research/l2p', (
          (names.typed(name), _about(module))
          for name, module in recipes().items())),
      _section('Methods, and on which stream they have a published average '
               'accuracy', (row for name, module in methods().items()
                            for row in _method(name, module))),
      _section('Streams', (
          (name, row.about) for name, row in streams.STREAMS.items())),
      _section('Presets: protocols of the literature', (
          (name, presets.ABOUT[name]) for name in presets.PRESETS))))


def recipes() -> dict[str, ModuleType]:
  """Files with one recipe each."""
  return {name: module for name, module in _modules() if not _on(module)}


def methods() -> dict[str, ModuleType]:
  """Files of methods, which take a stream."""
  return {name: module for name, module in _modules() if _on(module)}


def _modules() -> Iterable[tuple[str, ModuleType]]:
  package = __name__.rpartition('.')[0]
  return ((name, importlib.import_module(f'{package}.{name}'))
          for name in names.available())


def _on(module: ModuleType) -> bool:
  return hasattr(module, 'ON')


def _about(module: ModuleType) -> str:
  return module.__doc__.splitlines()[0].rstrip('.')


def _method(name: str, module: ModuleType) -> list[tuple[str, str]]:
  """A row of the method, and one of each published number."""
  return [(names.typed(name), _about(module)), *(
      (f'  {names.typed(name)}:{stream}', module.PUBLISHED[stream])
      for stream in streams.STREAMS if stream in module.PUBLISHED)]


def _section(title: str, rows: Iterable[tuple[str, str]]) -> str:
  """Two columns under a title."""
  rows = list(rows)
  width = max(len(name) for name, _ in rows) + 4
  return '\n'.join((f'{title}:', *(
      textwrap.fill(f'{"  " + name:<{width}}{about}', 80,
                    subsequent_indent=' ' * width, break_long_words=False,
                    break_on_hyphens=False) for name, about in rows)))
