# SPDX-License-Identifier: Apache-2.0
"""Short runs of every kind, by the command that users type.

  with tempfile.TemporaryDirectory() as folder:
    bench = runs.Bench(pathlib.Path(folder), {'now': root, 'then': other_root})
    for name, workdirs in bench.run(['digits_l2p', 'replay']):
      ...                                     # {'now': path, 'then': path}

Nothing of the code that runs is imported, so it may be of any revision that has
the recipes.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
import csv
import dataclasses
import pathlib
import socket
import subprocess
import sys

from tests.helpers import environment

COUNTS = pathlib.Path(__file__).parent / 'counts'
_COLUMNS = ('task', 'eval_set', 'selection', 'correct', 'total')
# At a time, on two cores: most of a run is one thread compiling.
_PROCESSES = 2


@dataclasses.dataclass(frozen=True)
class Run:
  """One run.

  Attributes:
    recipe: its name under `configs/`.
    changes: `key=value` of each key that makes it short, or is what it is for.
    hosts: processes.
  """

  recipe: str
  changes: tuple[str, ...] = ()
  hosts: int = 1


_REPLAY = ('replay.capacity=60', 'replay.policy=reservoir',
           'replay.dark_weight=0.3', 'replay.review_epochs=1')
_IT_PROMPT = ('it_prompt.selector_epochs=2', 'it_prompt.align_epochs=1')
# Their data are made of digits first.
_OF_LOOKS = {'digits_domain_l2p', 'digits_sequence_l2p'}
RUNS = {
    **{name: Run(name) for name in (
        'digits_l2p', 'digits_dualprompt', 'digits_b4_inc2_l2p',
        'digits_online_l2p', 'digits_pgt', 'digits_convprompt',
        'digits_clip_zeroshot', 'digits_clip_pgp')},
    # The first images of a split are those of the first domain or data set.
    **{name: Run(name, ('subsample_rate=-1',)) for name in sorted(_OF_LOOKS)},
    'digits_gaussian_l2p': Run('digits_gaussian_l2p',
                               ('continual.num_tasks=10',)),
    'digits_vq_prompt': Run('digits_vq_prompt', ('rebalance.epochs=2',)),
    'digits_it_prompt': Run('digits_it_prompt', _IT_PROMPT),
    'pgp': Run('digits_dualprompt', ('pgp.enabled=True',
                                     'subsample_rate=50')),
    'pgp_paper': Run('digits_l2p', ('pgp.enabled=True', 'pgp.variant=paper')),
    'replay': Run('digits_l2p', _REPLAY),
    'ewc': Run('digits_l2p', ('regularizer=ewc',)),
    'two_hosts': Run('digits_l2p', ('per_device_batch_size=8',), hosts=2)}
# Of every run: one pass over a part of the images, and no controls.
_SHORT = ('num_epochs=1', 'subsample_rate=40', 'comparisons=()')


class Bench:
  """Runs by one or more copies of the source tree, side by side."""

  def __init__(self, folder: pathlib.Path, trees: Mapping[str, pathlib.Path]):
    """Takes a folder for data and workdirs, and each copy's root by a name."""
    self._folder, self._trees = folder, trees

  def run(self, names: Sequence[str]
          ) -> Iterator[tuple[str, dict[str, pathlib.Path]]]:
    """Makes runs and gives each, as soon as all copies have made it.

    Raises:
      RuntimeError: one did not end well.
    """
    if not _OF_LOOKS.isdisjoint(names):
      subprocess.run(
          [sys.executable, 'tools/write_digit_sets.py',
           f'--output={self._folder}'], cwd=environment.ROOT, check=True,
          stdout=subprocess.DEVNULL, env=self._environment())
    with futures.ThreadPoolExecutor(_PROCESSES) as pool:
      started = {name: [pool.submit(self._execute, tree, name)
                        for tree in self._trees] for name in names}
      for name, results in started.items():
        yield name, dict(zip(self._trees, (r.result() for r in results),
                             strict=True))

  def _execute(self, tree: str, name: str) -> pathlib.Path:
    """One run, to its end; gives the workdir."""
    run, workdir = RUNS[name], self._folder / tree / name
    root = self._trees[tree]
    flags = [f'--my_config={root}/configs/{run.recipe}.py',
             f'--workdir={workdir}', f'--my_config.data_dir={self._folder}',
             *(f'--my_config.{change}' for change in (*_SHORT, *run.changes))]
    address = f'127.0.0.1:{_free_port()}'
    hosts = [] if run.hosts == 1 else [
        [f'--coordinator={address}', f'--num_hosts={run.hosts}', f'--host={i}']
        for i in range(run.hosts)]
    processes = [subprocess.Popen(
        [sys.executable, str(root / 'main.py'), *flags, *more],
        cwd=self._folder, env=self._environment(), text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
                 for more in hosts or [[]]]
    errors = [process.communicate()[1] for process in processes]
    for process, told in zip(processes, errors, strict=True):
      if process.returncode:
        raise RuntimeError(f'{name} by {tree} ended with status '
                           f'{process.returncode}:\n{told[-3000:]}')
    return workdir

  def _environment(self) -> dict[str, str]:
    """That of tests, with one device and nothing of this copy on the path."""
    return environment.of_child(
        PYTHONPATH='', JAX_DISABLE_MOST_OPTIMIZATIONS='1')


def _free_port() -> int:
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    return free.getsockname()[1]


def counts(workdir: pathlib.Path) -> str:
  """Correct images of each evaluation, from `results.csv`, as CSV."""
  with (workdir / 'results.csv').open() as file:
    rows = [[row[name] for name in _COLUMNS] for row in csv.DictReader(file)]
  return ''.join(','.join(row) + '\n' for row in [list(_COLUMNS), *rows])


def kept(name: str) -> str:
  """The counts that are kept of a run; '' before the first time."""
  path = COUNTS / f'{name}.csv'
  return path.read_text() if path.is_file() else ''


def difference(expected: str, found: str, *, share: float) -> str:
  """How counts differ, in one line; '' if they agree.

  Args:
    expected, found: from `counts`.
    share: of the images of a set, by which a number may differ.
  """
  want, have = ({tuple(row[:3]): tuple(map(int, row[3:])) for row in csv.reader(
      text.splitlines()[1:])} for text in (expected, found))
  if want.keys() != have.keys():
    return (f'other evaluations: {len(want)} are kept, {len(have)} were made, '
            f'{len(want.keys() ^ have.keys())} of them are in one only')
  wrong = [(key, want[key], have[key]) for key in want
           if want[key][1] != have[key][1]
           or abs(want[key][0] - have[key][0]) > share * want[key][1]]
  if not wrong:
    return ''
  (task, eval_set, selection), (correct, total), (now, images) = wrong[0]
  return (f'{len(wrong)} of {len(want)} counts differ, the first in '
          f'{selection}, task {task}, set {eval_set}: {correct} of {total} -> '
          f'{now} of {images}')
