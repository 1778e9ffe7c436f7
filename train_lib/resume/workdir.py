# SPDX-License-Identifier: Apache-2.0
"""What a run leaves in its workdir beside checkpoints and events.

config.json says whose the folder is, results.json and results.csv what came
out.  All are written by the first host.
"""

from collections.abc import Iterator
import contextlib
import json
import os
import pathlib
from typing import TYPE_CHECKING

import jax
from jax.experimental import multihost_utils
from ml_collections import ConfigDict
import numpy as np

from promptcl.models.weights import pretrained
from promptcl.train_lib.core import hosts
from promptcl.train_lib.core.state import TrainState
from promptcl.train_lib.records import fingerprint
from promptcl.train_lib.records import report
from promptcl.train_lib.records.results import Results
from promptcl.train_lib.resume import checkpoint
from promptcl.train_lib.resume.checkpoint import ResumePoint

if TYPE_CHECKING:
  from promptcl.input_pipeline.pipeline import TaskStream
  from promptcl.input_pipeline.replay import ReplayStream

CHECKPOINTS = 'checkpoints'


def check(workdir: str) -> None:
  """Refuses what cannot become the folder of a run; makes nothing.

  Raises:
    ValueError: no name, or a file stands there.
    OSError: nothing may be written there.
  """
  if not workdir:
    raise ValueError('--workdir is empty; name the folder for the results')
  path = pathlib.Path(workdir)
  there = next(p for p in (path, *path.absolute().parents) if p.exists())
  if not there.is_dir():
    raise ValueError(f'--workdir={workdir}: {there} is a file; choose another '
                     'folder')
  if not os.access(there, os.W_OK | os.X_OK):
    raise OSError(f'--workdir={workdir}: {there} cannot be written; choose '
                  'another folder')


def make(workdir: str) -> None:
  """Makes the folder.

  Raises:
    OSError: it cannot be made.
  """
  try:
    pathlib.Path(workdir).mkdir(parents=True, exist_ok=True)
  except OSError as e:
    raise OSError(f'--workdir={workdir} cannot be made ({e.strerror}); choose '
                  'another folder') from e


def claim(workdir: str, config_json: str) -> bool:
  """Makes the folder that of this config; the one place that looks.

  Returns:
    Whether it was so before.

  Raises:
    ValueError: it belongs to another config (lists what differs), or holds
      checkpoints without one, or is not one folder for all hosts.
  """
  path = pathlib.Path(workdir) / 'config.json'
  # In this order: another host may claim the folder at this very moment.
  trained = (path.parent / CHECKPOINTS).exists()
  before = path.exists()
  if before:
    differences = checkpoint.config_differences(_read(path), config_json)
    if differences:
      raise ValueError(f'workdir {workdir} belongs to another config '
                       f'(there -> now): {"; ".join(differences)}; '
                       'choose another workdir')
  elif trained:
    raise ValueError(f'workdir {workdir} holds checkpoints but no config.json '
                     'that says of which run; choose another workdir')
  if hosts.first():
    report.write_atomic(path, config_json)
  _check_shared(workdir)
  return before


def _read(path: pathlib.Path) -> str:
  """The text of a config.json.

  Raises:
    ValueError: it is damaged.
  """
  try:
    text = path.read_text()
    if isinstance(json.loads(text), dict):
      return text
    reason = 'no JSON object'
  except (ValueError, OSError) as e:
    reason = str(e)
  raise ValueError(f'{path} does not say whose folder this is ({reason}); '
                   'choose another workdir, or delete this one')


def _check_shared(workdir: str) -> None:
  """Refuses to go on where hosts would resume from different folders."""
  if not hosts.several():
    return
  multihost_utils.sync_global_devices('config.json is written')
  # Lists folders, as network file systems remember what was not there.
  folder = pathlib.Path(workdir)
  seen = {'config.json': np.array('config.json' in os.listdir(folder))}
  trained = CHECKPOINTS in os.listdir(folder)
  names = sorted(os.listdir(folder / CHECKPOINTS)) if trained else []
  seen[CHECKPOINTS] = np.array(names, 'S')
  try:
    hosts.check_agreement('files', seen)
  except ValueError as error:
    raise ValueError(f'workdir {workdir} is not one folder that all hosts '
                     f'share ({error}); give all of them the same one') from (
                         error)


@contextlib.contextmanager
def open_checkpoints(workdir: str) -> Iterator[checkpoint.Checkpointer]:
  """Context that gives the `Checkpointer` of a workdir and closes it.

  A save needs all hosts, so there is nothing to wait for when one is lost.
  """
  folder = pathlib.Path(workdir).absolute() / CHECKPOINTS
  checkpointer = checkpoint.Checkpointer(folder)
  with contextlib.closing(checkpointer), hosts.guard():
    yield checkpointer


def resume(checkpoints: checkpoint.Checkpointer, state: TrainState,
           results: Results, stream: 'ReplayStream'
           ) -> tuple[ResumePoint, TrainState, dict[str, np.ndarray]]:
  """Takes up the newest checkpoint, if there is one.

  Args:
    state: before the first step, unreplicated.
    results, stream: are given what was stored of them.

  Returns:
    The point that the run is at, the state there, and all stored arrays.

  Raises:
    ValueError: the checkpoint was written with other batches.
  """
  restored, point = checkpoints.restore_latest(state), checkpoints.latest
  if restored is None:
    return ResumePoint(-1), state, {}
  if point.rows_per_step != stream.rows_per_step:
    raise ValueError(
        f'the checkpoint was written with {point.rows_per_step} images per '
        f'step, this run would have {stream.rows_per_step} on '
        f'{jax.device_count()} device(s): set config.per_device_batch_size '
        '(and replay.batch_size) so that they agree, or choose another workdir')
  _, state, recorded = restored
  results.restore(recorded)
  stream.restore(recorded)
  return point, state, recorded


def save_results(results: Results, workdir: str, config_json: str,
                 origin: report.Json) -> None:
  """Writes results.json and results.csv; `origin` is from `provenance`."""
  if hosts.first():
    results.save(workdir, config_json=config_json, extra=origin)


def provenance(config: ConfigDict, stream: 'TaskStream') -> report.Json:
  """What numbers may only be compared with when it agrees."""
  checksum = None
  if config.init_checkpoint != pretrained.RANDOM:
    checksum = report.file_sha256(pretrained.local_path(config))
  origin = dict(class_order=stream.class_order,
                class_names=stream.class_names,
                weights_sha256=checksum, dataset=stream.dataset_name,
                global_batch_size=stream.global_batch_size,
                num_devices=jax.device_count())
  protocol = fingerprint.settings(
      config, {**origin, **fingerprint.cut(config, stream)})
  return {**origin, 'fingerprint': fingerprint.digest(protocol),
          'protocol': protocol}
