# SPDX-License-Identifier: Apache-2.0
"""What is wrong with flags or a recipe, in one line."""

from collections.abc import Iterator, Sequence
import os
import pathlib
import re
import sysconfig
import traceback

from absl import flags
from absl import logging

from promptcl import configs
from promptcl.configs import names

# Messages of absl and ml_collections -> what a user can act upon.
_PLAINER = tuple((re.compile(pattern, re.DOTALL), text) for pattern, text in (
    (r"^Unknown command line flag 'my_config\.([\w.]+)'.*",
     r'--my_config.\1 comes without --my_config=RECIPE.py'),
    (r'^Found --(\S+) in argv before .*', r'--\1 comes before --my_config'),
    (r'^flag --(\w+)=None: .* other than None\.$', r'--\1 is missing'),
    (r'.*Attempting to lookup: ([\w.]+).*', r'config.\1 is unknown'),
    (r"^.*\[Errno \d+\] ([\w ]+): '(.*)'$",
     r"--my_config='\2' cannot be read: \1"),
    (r"\('Non-boolean argument to boolean flag', (.*)\)$",
     r'must be true or false, not \1'),
    (r'invalid literal for int\(\) with base 10: (.*)$',
     r'must be a whole number, not \1'),
    (r'could not convert string to float: (.*)$',
     r'must be a number, not \1'),
    (r'^(flag .*?: ).*Error while parsing string: .* as tuple\..*',
     r'\1must be a list such as (0,1)'),
    (r'^(flag .*?: ).* as a ConfigDict: .* is not a dict\.',
     r'\1is a group of keys; set them one by one'),
    (r'\.? Other fields present: .*', ''),
    (r".*has no attribute 'get_config'.*",
     'the recipe has no function get_config'),
    (r'.*get_config\(\) takes 0 positional arguments.*',
     'this recipe takes no preset: leave out the colon in --my_config and what '
     'follows it'),
    (r'^source code string cannot contain null bytes$',
     '--my_config is no Python file'),
))
_ROOT = pathlib.Path(configs.__file__).resolve().parents[1]
_OTHERS = (sysconfig.get_path('stdlib'), sysconfig.get_path('purelib'), '<')


def parse(argv: Sequence[str]) -> list[str]:
  """Parses the flags and loads the recipe.

  Returns:
    What is left of `argv`, the program's name first.

  Raises:
    ValueError: one line on what is wrong with a flag or the recipe.
  """
  logging.set_verbosity(logging.ERROR)  # of a recipe the library warns as well
  try:
    left = flags.FLAGS(argv)
    getattr(flags.FLAGS.my_config, 'keys', None)  # raises if it was not found
    return left
  except Exception as error:  # pylint: disable=broad-except
    # A recipe is code and may raise anything.
    raise ValueError(_not_there(argv) or _reason(error, argv)) from error


def with_own_recipes(argv: Sequence[str]) -> list[str]:
  """The arguments, where `configs/NAME.py` may be a recipe of this package.

  It is where the current folder has no such file.
  """
  found = list(argv)
  for i, flag, recipe in _typed(argv):
    found[i] = flag + _own(recipe)
  return found


def _typed(argv: Sequence[str]) -> Iterator[tuple[int, str, str]]:
  """Where a recipe stands, what stands before it in that word, the recipe."""
  for i, word in enumerate(argv):
    flag, equals, recipe = word.partition('=')
    if flag.strip('-') == 'my_config':
      if equals:
        yield i, f'{flag}=', recipe
      elif i + 1 < len(argv):
        yield i + 1, '', argv[i + 1]


def _not_there(argv: Sequence[str]) -> str:
  """What to type instead of a recipe of ours that is not there, or ''."""
  for _, _, recipe in _typed(argv):
    typed, _, selection = recipe.partition(':')
    path = pathlib.Path(typed)
    ours = path.parent.name == 'configs' or typed == path.stem
    if ours and not path.exists():
      return names.instead(path.stem, selection)
  return ''


def _own(recipe: str) -> str:
  """Path of a recipe and its preset, in this package if it is only there."""
  path = recipe.partition(':')[0]
  if not os.path.exists(path) and (_ROOT / path).is_file():
    return str(_ROOT / recipe)
  return recipe


def _reason(error: Exception, argv: Sequence[str]) -> str:
  for cause in _chain(error):
    if place := _place_in_recipe(cause):
      text = plainer(str(cause))
      ours = isinstance(cause, ValueError | OSError)  # a preset, for instance
      return text if ours else (
          f'the recipe fails in {place}: {type(cause).__name__}: {text}')
  text = str(error).strip() or type(error).__name__
  if '--my_config=None' in text and any(
      word.startswith('--my_config') for word in argv):
    return 'get_config of the recipe returns nothing'
  return plainer(text.splitlines()[-1] if 'whilst parsing' in text else text)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
  """An error and what it came from."""
  while error is not None:
    yield error
    error = error.__context__


def _place_in_recipe(error: BaseException) -> str:
  """Where a recipe, or what it imports here, raised this; '' if it did not."""
  frames = [frame for frame in traceback.extract_tb(error.__traceback__)
            if not frame.filename.startswith(_OTHERS)]
  names = [frame.name for frame in frames]
  if not {'get_config', '<module>'} & set(names[names.index('parse') + 1:]
                                          if 'parse' in names else names):
    return ''
  return f'{frames[-1].filename}, line {frames[-1].lineno}'


def plainer(text: str) -> str:
  """A message of the flag libraries in words that help."""
  for pattern, replacement in _PLAINER:
    text = pattern.sub(replacement, text)
  for prefix in "'", 'SyntaxError: ', 'ValueError: ':
    text = text.removeprefix(prefix)
  return text
