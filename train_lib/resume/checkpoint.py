# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of {train state, results, resume point}, written by Orbax.

Saved in the background and put in place by a rename, so a reader sees a whole
checkpoint or none; numbered one after the other.  Only what training changes is
in it; the frozen backbone is read from its own file again.  Whose folder it is,
`workdir.claim` has settled before.

  checkpointer = Checkpointer(workdir + '/checkpoints')
  if (restored := checkpointer.restore_latest(state)) is not None:
    task_index, state, arrays = restored
    point = checkpointer.latest
  ...
  checkpointer.save(point, state, results.arrays())
  checkpointer.close()
"""

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import json
import os
import pathlib

from etils import epy
from flax import traverse_util
import jax
import numpy as np

from promptcl.train_lib.core import hosts
from promptcl.train_lib.core.parallel import PyTree
from promptcl.train_lib.records.report import Json

with epy.lazy_imports():  # a dry run needs none of it
  import orbax.checkpoint as ocp

# A task goes through TRAINING, TRAINED (the hooks after it have run, scores are
# due) and DONE (scored, results recorded).
TRAINING, TRAINED, DONE = 'training', 'trained', 'done'

# Config keys that may change between two starts of one run; a batch per device
# with the number of devices only, see `workdir.resume`.
IGNORED: frozenset[str] = frozenset(
    ('cache_dir', 'checkpoint_every_steps', 'comparisons', 'data_dir',
     'data_threads', 'manual_dir', 'per_device_batch_size'))
_ABSENT = '(absent)'


@dataclasses.dataclass(frozen=True)
class ResumePoint:
  """Where a run goes on; plain values only, so that it can be JSON.

  Attributes:
    task: index of the task at work, or of the last one if it is done.
    steps: optimizer steps made in this task.
    stage: of this task.
    seconds: that its training has taken.
    rows_per_step: over all devices and hosts; a step must stay what it is.
    events: `{name: bytes}` of the event files by then.
  """

  task: int
  steps: int = 0
  stage: str = DONE
  seconds: float = 0.0
  rows_per_step: int = 0
  events: Mapping[str, int] = dataclasses.field(default_factory=dict)

  def __str__(self) -> str:
    if self.stage == TRAINING:
      return f'in task {self.task + 1}, after {self.steps} of its steps'
    return f'after task {self.task + 1}'

  @property
  def next_task(self) -> int:
    """Index of the task to go on with."""
    return self.task + (self.stage == DONE)

  def plain(self) -> Json:
    """As a dictionary for JSON; `ResumePoint(**plain)` gives it back."""
    return {**dataclasses.asdict(self), 'events': dict(self.events)}


class Checkpointer:
  """Saves and restores a run; keeps the newest checkpoints only."""

  def __init__(self, directory: str | os.PathLike, max_to_keep: int = 2):
    """Opens, or makes, the directory of one run's checkpoints.

    Args:
      directory: for checkpoints only; with several hosts, one that all see.
      max_to_keep: older checkpoints than this many are deleted.
    """
    self._directory = pathlib.Path(directory).absolute()
    options = ocp.CheckpointManagerOptions(
        max_to_keep=max_to_keep, create=True, cleanup_tmp_directories=True)
    self._failed = False
    self._manager = ocp.CheckpointManager(
        self._directory, options=options, item_handlers={
            'state': ocp.StandardCheckpointHandler(),
            'results': ocp.StandardCheckpointHandler(),
            'run': ocp.JsonCheckpointHandler()})

  @property
  def latest(self) -> ResumePoint | None:
    """Where the newest checkpoint was written, None before the first."""
    self.wait()
    number = self._manager.latest_step()
    return None if number is None else ResumePoint(**self._run(number)['place'])

  def save(self, point: ResumePoint, state: PyTree,
           results_arrays: Mapping[str, np.ndarray]) -> None:
    """Starts to save; returns as soon as Orbax has copied everything.

    So it is safe to donate or change the arrays right afterwards.
    An error of an earlier save in the background is raised here or in `wait`.

    Args:
      point: where the run is.
      state: unreplicated train state.
      results_arrays: flat dict of what else must survive: `Results.arrays`
        and the replay store, whose pixels are one array of any length.

    Raises:
      OSError: this save, or the one before, failed; earlier ones are good.
    """
    newest = self._manager.latest_step()
    state, arrays = _flatten(state), _flatten(dict(results_arrays))
    items = ocp.args.Composite(
        state=ocp.args.StandardSave(_stored(state)),
        results=ocp.args.StandardSave(_stored(arrays)),
        run=ocp.args.JsonSave({
            'place': point.plain(), 'state': _describe(state),
            'results': _describe(arrays)}))
    with self._explain_failure():
      self._manager.save(0 if newest is None else newest + 1, args=items)

  def wait(self) -> None:
    """Returns when the save in the background is complete."""
    with self._explain_failure():
      self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits for the save in the background and frees its threads."""
    if not self._failed:  # else the manager would raise that again
      with self._explain_failure():
        self._manager.close()

  def restore_latest(self, like_state: PyTree) -> (
      tuple[int, PyTree, dict[str, np.ndarray]] | None):
    """Reads the newest complete checkpoint, bit by bit as it was saved.

    Args:
      like_state: a state of the same structure, shapes and dtypes.

    Returns:
      `(task_index, state, results_arrays)` with NumPy leaves, or None when
      there is no checkpoint yet.

    Raises:
      ValueError: a state of another structure.
    """
    self.wait()
    number = self._manager.latest_step()
    if number is None:
      return None
    run = self._run(number)
    if wrong := differences(run['state'], _describe(_flatten(like_state))):
      raise ValueError(
          f'checkpoint {self._directory / str(number)} holds another state '
          'than this program makes (stored -> now): ' + '; '.join(wrong)
          + '; choose another workdir')
    state, arrays = self._arrays(number, run)
    state = jax.tree.unflatten(
        jax.tree.structure(like_state),
        [state[path] for path in _flatten(like_state)])
    return run['place']['task'], state, arrays

  def _run(self, number: int) -> Json:
    """What a checkpoint says of itself."""
    with self._explain_damage(number):
      run = self._manager.restore(
          number, args=ocp.args.Composite(run=ocp.args.JsonRestore()))['run']
      return {'state': run['state'], 'results': run['results'],
              'place': ResumePoint(**run['place']).plain()}

  def _arrays(self, number: int, run: Json
              ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The leaves of the state and the other arrays of a checkpoint."""
    with self._explain_damage(number):
      blank = {part: {path: np.zeros(shape, dtype)
                      for path, (dtype, shape) in run[part].items()}
               for part in ('state', 'results')}
      restored = self._manager.restore(number, args=ocp.args.Composite(
          **{part: ocp.args.StandardRestore(_stored(arrays))
             for part, arrays in blank.items()}))
      state, arrays = (blank[part] | restored[part] for part in blank)
    del arrays['_']
    return state, arrays

  @contextlib.contextmanager
  def _explain_damage(self, number: int) -> Iterator[None]:
    """Turns whatever reading a damaged checkpoint raises into one line."""
    try:
      yield
    except Exception as error:  # pylint: disable=broad-except
      folder = self._directory / str(number)
      raise ValueError(
          f'checkpoint {folder} is damaged or of another version '
          f'({type(error).__name__}); delete it to go on from the one before, '
          'or choose another workdir') from error

  @contextlib.contextmanager
  def _explain_failure(self) -> Iterator[None]:
    """Turns whatever a save may raise into one line, but for a lost host."""
    try:
      yield
    except Exception as error:  # pylint: disable=broad-except
      self._failed = True
      if hosts.lost(error):
        raise
      reason = (str(error).strip() or type(error).__name__).splitlines()[0]
      raise OSError(
          f'no checkpoint could be saved in {self._directory} ({reason}); make '
          'room there and run the same command again, it goes on from the '
          'checkpoint before') from error


def config_differences(stored_json: str, now_json: str) -> list[str]:
  """Lines `key: stored -> now` for config keys that differ, sorted by key."""
  stored, now = (
      {k: v for k, v in traverse_util.flatten_dict(
          json.loads(text), keep_empty_nodes=False, sep='.').items()
       if k not in IGNORED} for text in (stored_json, now_json))
  return differences(stored, now)


def differences(stored: Json, now: Json) -> list[str]:
  """Lines `key: stored -> now` for entries that differ, sorted by key."""
  show = lambda entries, key: (
      json.dumps(entries[key]) if key in entries else _ABSENT)
  return [f'{key}: {show(stored, key)} -> {show(now, key)}'
          for key in sorted(stored.keys() | now.keys())
          if show(stored, key) != show(now, key)]


def _flatten(tree: PyTree) -> dict[str, np.ndarray]:
  """`{path: leaf on the host}`; Orbax is spared tuples and optax's types."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  flat = {jax.tree_util.keystr(path, simple=True, separator='/'):
          np.asarray(leaf) for path, leaf in leaves}
  assert len(flat) == len(leaves), 'two leaves share a path'
  return flat


def _stored(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Those that are written: Orbax refuses arrays without elements.

  The extra entry is there because it refuses to store nothing, too.
  """
  return {'_': np.zeros(1)} | {k: v for k, v in arrays.items() if v.size}


def _describe(arrays: Mapping[str, np.ndarray]) -> dict[str, list]:
  """`{path: [dtype, shape]}`, as JSON gives it back."""
  return {path: [str(array.dtype), list(array.shape)]
          for path, array in arrays.items()}
