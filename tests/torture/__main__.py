# SPDX-License-Identifier: Apache-2.0
"""Kills real runs and looks whether anything of it shows in the end.

  python -m tests.torture --kills 20 --method l2p --seed 0

A run of three tasks on tiny data is killed with SIGKILL at random points and
started again with the same command until it ends; then its results and events
must be those of a run that nobody touched.  A run that ends before all kills
are used up is followed by another.  The exit status is 0 if all are identical.
"""

import argparse
import collections
import dataclasses
import pathlib
import random
import signal
import sys
import tempfile

from tests.helpers import environment
from tests.helpers import fakes
from tests.helpers import preloaded
from tests.helpers import projections
from tests.torture import comparison

_REPLAY = {'replay.capacity': 14, 'replay.policy': 'reservoir',
           'replay.dark_weight': 0.3, 'replay.label_weight': 0.7,
           'replay.batch_size': 8, 'replay.review_epochs': 2}
_IT_PROMPT = {
    **fakes.IT_PROMPT, 'model_name': fakes.VARIANT, 'head': 'linear',
    'freeze_part': ('encoder', 'embedding', 'cls'),
    'it_prompt.modality': 'vision', 'it_prompt.selector_batch': 16,
    'it_prompt.selector_epochs': 2, 'it_prompt.align_epochs': 2,
    'it_prompt.align_draws': 16}
METHODS = {'l2p': {}, 'dualprompt': fakes.DUALPROMPT, 'replay': _REPLAY,
           'ewc': {'regularizer': 'ewc'}, 'pgp': projections.L2P,
           'clip_pgp': projections.CLIP, 'vq_prompt': fakes.VQ_PROMPT,
           'it_prompt': _IT_PROMPT,
           'pgt': fakes.PGT, 'convprompt': fakes.CONVPROMPT}
_RECIPE = '''
from tests.helpers import environment
from tests.helpers import fakes
from tests.helpers import preloaded

def get_config():
  return fakes.bare_config(**{changes!r})
'''

@dataclasses.dataclass
class Torture:
  """One session.

  Attributes:
    folder: for inputs and workdirs.
    method: one of `METHODS`.
    kills: how many are wanted.
    seed: of the points.
  """

  folder: pathlib.Path
  method: str
  kills: int
  seed: int

  def __post_init__(self):
    self._rng = random.Random(self.seed)
    self._places: collections.Counter[str] = collections.Counter()
    self._half_written = 0
    changes = {
        'dataset': fakes.write_data(self.folder / 'data.npz'),
        'init_checkpoint': fakes.write_checkpoint(self.folder / 'vit.npz'),
        'per_device_batch_size': 8, 'eval_per_epochs': 1, 'data_threads': 2,
        'checkpoint_every_steps': 3, **METHODS[self.method]}
    self._recipe = self.folder / 'recipe.py'
    self._recipe.write_text(_RECIPE.format(changes=changes))

  def run(self) -> bool:
    """Whether all went well; prints what happens."""
    kills, rounds, identical = 0, 0, True
    with self._main('unbroken') as unbroken:
      while kills < self.kills:
        rounds += 1
        name = f'killed{rounds}'
        while kills < self.kills and (point := self._kill(name)):
          kills += 1
          print(f'kill {kills} of run {rounds}: {point}', flush=True)
        with self._main(name) as last:
          _finish(last)
        if rounds == 1:
          _finish(unbroken)
        found = comparison.difference(self.folder / 'unbroken',
                                      self.folder / name)
        print(f'run {rounds}: {found or "identical"}', flush=True)
        identical = identical and not found
    print(f'{self.method}, seed {self.seed}: {kills} kills and as many resumes '
          f'in {rounds} run(s): '
          f'{"identical" if identical else "NOT identical"}', flush=True)
    print('killed: ' + ', '.join(
        f'{count} x {place}' for place, count in self._places.most_common())
          + f'; {self._half_written} with a checkpoint half written')
    return identical

  def _kill(self, name: str) -> str:
    """Starts a run and kills it; the point, or nothing if it was done first."""
    seed = self._rng.randrange(2**32)
    delay = self._rng.choice((0.0, self._rng.uniform(0, 0.05)))
    with self._main(name, '-m', 'tests.torture.victim', str(seed),
                    str(delay), 'SIGKILL') as victim:
      told = _finish(victim, status=-signal.SIGKILL)
    if not victim.status:
      return ''
    points = [line.removeprefix('point: ') for line in told.splitlines()
              if line.startswith('point: ')]
    self._places[points[-1]] += 1
    point = f'{points[-1]}, {1000 * delay:.0f} ms later'
    if list((self.folder / name).glob('checkpoints/*.orbax-checkpoint-tmp')):
      self._half_written += 1
      point += ', a checkpoint half written'
    return point

  def _main(self, name: str, *wrapper: str) -> preloaded.Run:
    """Starts the same command on one device, whoever runs it."""
    return preloaded.start(
        *wrapper, str(environment.ROOT / 'main.py'),
        f'--my_config={self._recipe}', f'--workdir={self.folder / name}',
        env=environment.of_child())


def _finish(run: preloaded.Run, *, status: int = 0) -> str:
  """Waits for a run that must end well or with `status`; what it told."""
  if run.wait(timeout=600) not in (0, status):
    raise RuntimeError(f'status {run.status}:\n{run.errors}')
  return run.errors


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--kills', type=int, default=20)
  parser.add_argument('--method', choices=sorted(METHODS), default='l2p')
  parser.add_argument('--seed', type=int, default=0)
  options = parser.parse_args()
  environment.set_up(num_devices=1)
  with tempfile.TemporaryDirectory() as folder:
    session = Torture(pathlib.Path(folder), options.method, options.kills,
                      options.seed)
    return 0 if session.run() else 1


if __name__ == '__main__':
  sys.exit(main())
