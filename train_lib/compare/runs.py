# SPDX-License-Identifier: Apache-2.0
"""Runs that may stand in one table, and which of them share a row."""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses

from promptcl.train_lib.records import fingerprint
from promptcl.train_lib.records import report

# Keys that name places or the amount of work, not what is computed.
_NO_MATTER = ('seed', 'preset', 'data_dir', 'manual_dir', 'cache_dir',
              'data_threads', 'init_checkpoint', 'init_sha256', 'dataset',
              'split_files', 'comparisons', 'headline_metrics',
              'prompt_histogram', 'eval_per_epochs', 'eval_every_steps',
              'checkpoint_every_steps')
_ORDER_SEED = 'continual.rand_seed'


@dataclasses.dataclass
class Run:
  """What one results.json says.

  Attributes:
    folder: where it was read.
    seed: of the run.
    config: what matters of it, flat.
    protocol: settings behind `metrics`.
    metrics: by id, as shares; None where they do not apply; `task_inc:ID`
      is that with the task known and prompts chosen alike.
    headline: ids that the run asks for.
    num_tasks, finished: how far it is.
    options: the whole config, flat.
    extras: what only its method measures, as shares.
  """

  folder: str
  seed: int
  config: report.Json
  protocol: report.Json
  metrics: dict[str, float | None]
  headline: tuple[str, ...]
  num_tasks: int
  finished: bool
  options: report.Json
  extras: dict[str, float | None]


def read(folder: str, selection: str = '') -> Run:
  """Loads a run.

  Args:
    folder: its workdir.
    selection: whose numbers are wanted; '' is the run's headline.

  Raises:
    FileNotFoundError, ValueError: no results there, or not those wanted.
  """
  loaded = report.load(folder)
  if 'protocol' not in loaded:
    raise ValueError(f'{folder} has no protocol fingerprint: it was written by '
                     'an older version; start the run again with its command')
  protocol = loaded['protocol']
  name = selection or loaded['headline']['selection']
  known = loaded['selections']
  if protocol['selection'] == 'none' and name not in known:
    name = name.replace('batch', 'per_sample')  # nothing is chosen: the same
  if known and name not in known:
    raise ValueError(f'{folder} has no selection {name!r}, have '
                     f'{", ".join(known)}')
  options = dict(_flat(loaded['config']))
  config = {key: value for key, value in options.items()
            if key not in _NO_MATTER}
  config['global_batch_size'] = loaded['global_batch_size']
  return Run(folder, loaded['seed'], config,
             fingerprint.for_selection(protocol, name),
             _metrics(known, name) if known else {},
             tuple(loaded['config']['headline_metrics']),
             len(loaded['tasks']), loaded['finished'], options,
             loaded.get('extras', {}))


def _metrics(known: report.Json, name: str) -> dict[str, float | None]:
  """Those of selection `name`, and of its twin with the task known."""
  twin = name.removesuffix(report.TASK_INCREMENTAL) + report.TASK_INCREMENTAL
  return known[name]['metrics'] | {
      f'task_inc:{key}': value
      for key, value in known.get(twin, {}).get('metrics', {}).items()}


def settle_orders(runs: Sequence[Run]) -> None:
  """Decides whether class orders are drawn anew in each run, in place.

  They are if in every run the seed of the order is that of the run.  Otherwise
  one that happens to be is a fixed order like the others.
  """
  tied = [run for run in runs
          if run.protocol['class_order'].endswith(fingerprint.SEED_OF_RUN)]
  if len(tied) == len(runs):
    for run in runs:
      run.config.pop(_ORDER_SEED)
  else:
    for run in tied:
      drawn = run.protocol['class_order'].replace(
          fingerprint.SEED_OF_RUN, f'seed {run.seed}')
      ascending = run.config[_ORDER_SEED] < 0
      run.protocol['class_order'] = 'ascending' if ascending else drawn


def check_protocols(runs: Sequence[Run]) -> None:
  """Refuses runs that must not share a column.

  Raises:
    ValueError: names two runs, what differs and both values.
  """
  for i, run in enumerate(runs):
    for other in runs[:i]:
      if found := fingerprint.differences(other.protocol, run.protocol):
        told = '; '.join(f'{name} is {a!r} and {b!r}'
                         for name, (a, b) in found.items())
        hint = (' or choose one with --selection' if 'selection' in found
                else '')
        raise ValueError(
            f'{other.folder} and {run.folder} follow different protocols and '
            f'must not share a column: {told}; give --mix to print them '
            f'nevertheless{hint}')


def group(runs: Iterable[Run]) -> dict[str, list[Run]]:
  """Runs by row: those that differ only in the seed, under a name.

  Rows of one method are told apart by the keys in which they differ.

  Raises:
    ValueError: the same run twice.
  """
  groups: list[list[Run]] = []
  for run in runs:
    mine = next((g for g in groups if g[0].config == run.config
                 and g[0].protocol == run.protocol), None)
    if mine is None:
      groups.append([run])
      continue
    for twin in mine:
      if twin.seed == run.seed:
        raise ValueError(f'{twin.folder} and {run.folder} are the same run '
                         f'with seed {run.seed}; leave one out')
    mine.append(run)
  return {name: sorted(members, key=lambda run: run.seed) for name, members
          in zip(_names([g[0] for g in groups]), groups, strict=True)}


def _names(runs: Sequence[Run]) -> list[str]:
  """The method of each run and what tells it from others of that method."""
  names = _with_differences([run.config['method'] for run in runs],
                            [run.config for run in runs])
  if len(set(names)) < len(names):  # the protocol alone may differ
    names = _with_differences(names, [run.protocol for run in runs])
  return [name if names.count(name) == 1 else f'{name} ({run.folder})'
          for name, run in zip(names, runs, strict=True)]


def _with_differences(names: Sequence[str], settings: Sequence[report.Json]
                      ) -> list[str]:
  """Adds to each name the settings that differ between runs of that name."""
  longer = []
  for name, own in zip(names, settings, strict=True):
    alike = [s for n, s in zip(names, settings, strict=True) if n == name]
    keys = [key for key, value in own.items()
            if any(other.get(key) != value for other in alike)]
    longer.append(' '.join([name, *(
        f'{key.split(".")[-1]}={_short(own[key])}' for key in keys)]))
  return longer


def _short(value: object) -> str:
  if isinstance(value, list):
    return ','.join(map(str, value)) or '()'
  return f'{value:g}' if isinstance(value, float) else str(value)


def _flat(config: Mapping[str, object], prefix: str = ''
          ) -> Iterable[tuple[str, object]]:
  """Keys such as 'continual.rand_seed' with their values."""
  for name, value in config.items():
    if isinstance(value, Mapping):
      yield from _flat(value, f'{prefix}{name}.')
    else:
      yield prefix + name, value
