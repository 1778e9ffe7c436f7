# SPDX-License-Identifier: Apache-2.0
"""A run's results as files.

results.json opens with the headline and holds everything that is needed to
compute any other metric; results.csv has one row per task, evaluation set and
selection, for spreadsheets, and extras.csv what is measured beside that.
"""

from collections.abc import Mapping
import contextlib
import csv
import hashlib
import importlib.metadata
import io
import json
import os
import pathlib
import platform
from typing import Any, TYPE_CHECKING

import numpy as np

from promptcl.train_lib.records import metrics

if TYPE_CHECKING:
  from promptcl.train_lib.records.results import Results

JSON_NAME = 'results.json'
CSV_NAME = 'results.csv'
EXTRAS_NAME = 'extras.csv'
TASK_INCREMENTAL = '_task_inc'
UNTIL_OWN = 'until_own_task'
_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain',
             'clu', 'ml-collections', 'tensorflow-datasets', 'tensorflow-cpu',
             'numpy', 'opencv-python-headless')

Json = dict[str, Any]  # plain values by name


def build(results: 'Results', *, config_json: str, extra: Json) -> Json:
  """What results.json holds, with None for NaN.

  Raises:
    ValueError: `extra` names an entry that is already there.
  """
  config = json.loads(config_json)
  last = results.last_task
  report = {
      'finished': results.finished,
      'headline': {'selection': results.headline,
                   'metrics': results.summary() if last >= 0 else {}},
      'seed': config.get('seed'),
      'eval_sets': [{'name': name, 'total': total} for name, total
                    in zip(results.eval_set_names, results.totals,
                           strict=True)],
      'tasks': [_task_entry(results, t) for t in range(results.num_tasks)],
      'selections': {name: _selection_entry(
          results, name, config.get('eval_classes', 'all'))
                     for name in results.correct},
      'loss': results.loss,
      'prompt_counts': results.prompt_counts,
      'extras': results.extras,
      'versions': versions(),
  }
  if taken := (report.keys() | {'config'}) & extra.keys():
    raise ValueError(f'results.json has its own {sorted(taken)}')
  return _plain({**report, **extra, 'config': config})


def arrays(report: Json) -> dict[str, np.ndarray]:
  """What `Results.restore` takes, from a loaded results.json."""
  tasks, sets = report['tasks'], report['eval_sets']
  values = {
      'totals': np.array([s['total'] for s in sets], np.int64),
      'loss': np.array(report['loss'], np.float64),
      'seconds': np.array([t['seconds'] for t in tasks], np.float64),
      'images_per_second': np.array(
          [t['images_per_second'] for t in tasks], np.float64)}
  for name, entry in report['selections'].items():
    counts = np.array(entry['correct'], np.float64)  # None becomes NaN
    values[f'correct:{name}'] = np.nan_to_num(counts, nan=-1).astype(np.int64)
  for name, value in report.get('extras', {}).items():
    values[f'extra:{name}'] = np.array(value, np.float64)  # None becomes NaN
  if report['prompt_counts'] is not None:
    values['prompt_counts'] = np.array(report['prompt_counts'], np.int64)
  return values


def save(workdir: str, report: Json) -> None:
  """Writes results.csv, extras.csv if there are any, and results.json last.

  Each is written atomically.
  """
  path = pathlib.Path(workdir)
  write_atomic(path / CSV_NAME, _csv(report))
  if report['extras']:
    write_atomic(path / EXTRAS_NAME, _extras_csv(report['extras']))
  write_atomic(path / JSON_NAME, to_json(report) + '\n')


def load(workdir: str) -> Json:
  """Reads what `save` wrote.

  Raises:
    FileNotFoundError: there are no results yet.
    ValueError: results.json is damaged.
  """
  path = pathlib.Path(workdir) / JSON_NAME
  if not path.is_file():
    raise FileNotFoundError(f'{path} does not exist: no results yet')
  try:
    return json.loads(path.read_text(encoding='utf-8'))
  except ValueError as e:
    raise ValueError(f'{path} is not readable: {e}') from e


def write_atomic(path: str | os.PathLike, text: str) -> None:
  """Writes a file so that readers see the old or the new one, never a part.

  Raises:
    OSError: with the path, so that the user knows where to make room.
  """
  path = pathlib.Path(path)
  temporary = path.with_name(f'{path.name}.{os.getpid()}.tmp')
  try:
    with open(temporary, 'w', encoding='utf-8', newline='') as file:
      file.write(text)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except OSError as error:
    reason = error.strerror or error
    raise OSError(f'{path} could not be written: {reason}') from error
  finally:
    temporary.unlink(missing_ok=True)


def to_json(value: object, indent: str = '') -> str:
  """JSON text with one line per row of a matrix instead of one per number."""
  deeper = indent + '  '
  if isinstance(value, Mapping) and value:
    items = [f'{json.dumps(str(k))}: {to_json(v, deeper)}'
             for k, v in value.items()]
  elif (isinstance(value, (list, tuple)) and
        any(isinstance(v, (Mapping, list, tuple)) for v in value)):
    items = [to_json(v, deeper) for v in value]
  else:
    return json.dumps(value, allow_nan=False)
  start, end = '{}' if isinstance(value, Mapping) else '[]'
  return f'{start}\n{deeper}' + f',\n{deeper}'.join(items) + f'\n{indent}{end}'


def file_sha256(path: str | os.PathLike) -> str:
  """Checksum of a file, such as pretrained weights, in hexadecimal."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def versions() -> dict[str, str]:
  """Versions of Python and of the libraries that numbers depend on."""
  numbers = {'python': platform.python_version()}
  for package in _PACKAGES:
    # A package may be absent, or installed under another name.
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      numbers[package] = importlib.metadata.version(package)
  return numbers


def _task_entry(results: 'Results', task: int) -> Json:
  """Times of a task and, where it was evaluated, the original's tags."""
  accuracies = (results.accuracies() if results.last_task >= 0 else
                np.full(results.loss.shape, np.nan))
  entry = {'task': task, 'seconds': results.seconds[task],
           'images_per_second': results.images_per_second[task]}
  if not np.isnan(accuracies[task, :task + 1]).all():
    entry |= metrics.task_metrics(accuracies, task)
  return entry


def _selection_entry(results: 'Results', name: str, competing: str) -> Json:
  """Matrix and metrics of one selection."""
  counts = results.correct[name]
  if name.endswith(TASK_INCREMENTAL):
    competing = 'own task'
  elif name == UNTIL_OWN:
    competing = "tasks up to the image's own"
  return {'classes_competing': competing,
          'correct': np.where(counts < 0, None, counts),
          'accuracies': results.accuracies(name),
          'metrics': results.metrics(name)}


def _csv(report: Json) -> str:
  """One row per (task, evaluation set, selection) that was evaluated."""
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(['task', 'eval_set', 'name', 'selection', 'correct', 'total',
                   'accuracy'])
  for selection, entry in report['selections'].items():
    for task, row in enumerate(entry['correct']):
      for index, correct in enumerate(row):
        if correct is not None:
          eval_set = report['eval_sets'][index]
          writer.writerow([task, index, eval_set['name'], selection, correct,
                           eval_set['total'], correct / eval_set['total']])
  return text.getvalue()


def _extras_csv(extras: Mapping[str, float | None]) -> str:
  """One row per name and task; the task is empty for averages."""
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(['name', 'task', 'share'])
  for key, share in sorted(extras.items()):
    name, _, task = key.rpartition('@')
    writer.writerow([name, task, share] if task.isdigit() else [key, '', share])
  return text.getvalue()


def _plain(value: object) -> object:
  """NumPy's arrays and scalars as Python's; None for NaN and infinity."""
  if isinstance(value, Mapping):
    return {str(k): _plain(v) for k, v in value.items()}
  if isinstance(value, (np.ndarray, np.generic)):
    return _plain(value.tolist())
  if isinstance(value, (list, tuple)):
    return [_plain(v) for v in value]
  if isinstance(value, float) and not np.isfinite(value):
    return None
  return value
