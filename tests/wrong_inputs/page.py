# SPDX-License-Identifier: Apache-2.0
"""Every wrong input of the tests, and the page of them in the docs.

  python -m tests.wrong_inputs > docs/wrong_inputs.md
"""

from tests.wrong_inputs import configs
from tests.wrong_inputs import data
from tests.wrong_inputs import flags
from tests.wrong_inputs import weights
from tests.wrong_inputs import workdirs
from tests.wrong_inputs.row import FOLDER
from tests.wrong_inputs.row import NAMES
from tests.wrong_inputs.row import Row
from tests.wrong_inputs.row import SHA256

GROUPS: dict[str, tuple[Row, ...]] = {
    'Flags': flags.FLAGS,
    'Recipes': flags.RECIPES,
    'Config keys by themselves': configs.VALUES,
    'Config keys together': configs.TOGETHER,
    'Config and data': configs.STREAMS,
    'Pretrained weights': weights.WEIGHTS,
    'Data: names and arrays': data.NPZ,
    'Data: folders of pictures': data.FOLDERS,
    'Workdirs and checkpoints': workdirs.WORKDIRS,
}
_NAMES = ', '.join(f'`{name}`' for name in NAMES)
_INTRODUCTION = f"""# What a user sees go wrong

Written by `python -m tests.wrong_inputs > docs/wrong_inputs.md`; a test types
every row and compares the line.

A wrong input ends with exit status 1 and one line on standard error, after
`error: `, before anything is compiled or written. `--debug` shows the
traceback. Below, `recipe.py` is a small recipe over `data.npz` (six classes, 40
training images a task) and `vit.npz`, run on eight devices with

```bash
python main.py --my_config=recipe.py --workdir=run
```

and what is typed comes after that, unless it brings these two flags itself.
`{FOLDER}` stands for the current folder, `{SHA256}` for a checksum, {_NAMES}
for all that exist.
"""


def page() -> str:
  """The page, in Markdown."""
  count = sum(map(len, GROUPS.values()))
  parts = [_INTRODUCTION, f'{count} wrong inputs are tried.\n']
  for title, rows in GROUPS.items():
    parts += [f'\n## {title}\n', '| wrong | typed | line |', '|---|---|---|']
    parts += [f'| {row.what} | {_code(row.typed)} | {_code(row.line)} |'
              for row in rows]
  return '\n'.join(parts) + '\n'


def _code(text: str) -> str:
  """Text in a cell as it is."""
  if not text:
    return ''
  text = text.replace('|', r'\|')
  return f'`` {text} ``' if '`' in text else f'`{text}`'
