# SPDX-License-Identifier: Apache-2.0
"""What two runs left, number by number."""

from collections.abc import Iterator
import itertools
import json
import pathlib
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
from tensorboard.backend.event_processing import event_file_loader

# Not a function of config and data.
_TIMES = ('seconds', 'images_per_second')


def difference(expected: pathlib.Path, found: pathlib.Path) -> str:
  """The first thing in which two workdirs differ; empty if there is none.

  Compared are results.json without times and what `outcome` compares.
  """
  want, have = (json.loads((folder / 'results.json').read_text())
                for folder in (expected, found))
  for path, a, b in leaves('results.json', want, have):
    if a != b:
      return f'{path}: {a} -> {b}'
  return outcome(expected, found)


def outcome(expected: pathlib.Path, found: pathlib.Path,
            added: tuple[str, ...] = ()) -> str:
  """The first number of two runs that differs in a bit; empty if none does.

  Compared are the counts in results.csv, the state after the last step and all
  events (hyperparameters by name only, they hold a time) but those of `found`
  whose tags begin with one of `added`.
  """
  want, have = ((folder / 'results.csv').read_text().splitlines()
                for folder in (expected, found))
  for a, b in itertools.zip_longest(want, have):
    if a != b:
      return f'results.csv: {a} -> {b}'
  want, have = last_state(expected), last_state(found)
  for path in sorted(want.keys() | have.keys()):
    if path not in want or path not in have:
      return f'state: {path} is in one of them only'
    if not _same(want[path], have[path]):
      return f'state: {path} differs'
  want = events(expected)
  have = [event for event in events(found) if not event[1].startswith(added)]
  for entry in sorted(set(want) | set(have)):
    if want.count(entry) != have.count(entry):
      return (f'event {entry[1]} of step {entry[0]}: {want.count(entry)} times '
              f'-> {have.count(entry)} times')
  return ''


def last_state(workdir: pathlib.Path) -> dict[str, np.ndarray]:
  """`{path: array}` of the newest checkpoint's train state."""
  newest = max((path for path in (workdir / 'checkpoints').iterdir()
                if path.name.isdigit()), key=lambda path: int(path.name))
  with ocp.StandardCheckpointer() as reader:
    return reader.restore(newest.absolute() / 'state')


def _same(a: np.ndarray, b: np.ndarray) -> bool:
  a, b = np.asarray(a), np.asarray(b)
  return (a.dtype, a.shape) == (b.dtype, b.shape) and a.tobytes() == b.tobytes()


def events(workdir: pathlib.Path) -> list[tuple[int, str, bytes]]:
  """(step, tag, value) of each event of a run."""
  found = []
  for path in sorted(workdir.glob('events.out.tfevents.*')):
    for event in event_file_loader.LegacyEventFileLoader(str(path)).Load():
      for value in event.summary.value:
        timed = value.tag.startswith('_hparams_')
        found.append((event.step, value.tag,
                      b'' if timed else value.SerializeToString()))
  return found


def leaves(path: str, a: Any, b: Any) -> Iterator[tuple[str, Any, Any]]:
  """Where two JSON values may differ."""
  if isinstance(a, dict) and isinstance(b, dict):
    for key in sorted(a.keys() | b.keys()):
      if key not in _TIMES:
        yield from leaves(f'{path}:{key}', a.get(key), b.get(key))
  elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
    for i, pair in enumerate(zip(a, b, strict=True)):
      yield from leaves(f'{path}:{i}', *pair)
  else:
    yield path, a, b
