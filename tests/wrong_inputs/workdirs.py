# SPDX-License-Identifier: Apache-2.0
"""Wrong workdirs and checkpoints."""

import functools
import json
import pathlib
import shutil
import tempfile

from promptcl.train_lib import train
from promptcl.train_lib.records.results import Results
from promptcl.train_lib.resume import workdir as workdir_lib
from promptcl.train_lib.resume.checkpoint import ResumePoint
from promptcl.train_lib.resume.checkpoint import TRAINING
from promptcl.train_lib.startup import startup
from tests.helpers import fakes
from tests.wrong_inputs.row import Row
from tests.wrong_inputs.row import write
from tests.wrong_inputs.row import write_good


def _recipe(folder, **changes):
  config = fakes.bare_config(
      dataset=f'npz:{folder}data.npz', init_checkpoint=f'{folder}vit.npz',
      num_epochs=1, **changes)
  return startup.expand(config)


def _claimed(folder, **changes):
  """A workdir of the recipe, or of another one."""
  (folder / 'run').mkdir()
  workdir_lib.claim(str(folder / 'run'),
                    _recipe('', **changes).to_json_best_effort())


def _config_json(content):
  return lambda folder: write(folder / 'run/config.json', content) and None


def _nobodys(folder):
  (folder / 'run/checkpoints').mkdir(parents=True)


@functools.cache
def _stopped(rows: int, drop: str) -> tempfile.TemporaryDirectory:
  """A workdir stopped after two steps, with one checkpoint."""
  made = tempfile.TemporaryDirectory()
  folder = pathlib.Path(made.name)
  write_good(folder)
  _claimed(folder)
  program, stream = train.prepare(_recipe(f'{folder}/'))
  _, state = program.start()
  state = state.replace(params={
      k: v for k, v in state.params.items() if k != drop})
  results = Results(len(stream.tasks), [e.name for e in stream.eval_sets],
                    'batch')
  with workdir_lib.open_checkpoints(str(folder / 'run')) as checkpoints:
    checkpoints.save(ResumePoint(0, 2, TRAINING, rows_per_step=rows), state,
                     results.arrays())
  return made


def _saved(folder, *, spoil=lambda checkpoint: None, rows=8, drop=''):
  shutil.copytree(f'{_stopped(rows, drop).name}/run', folder / 'run')
  spoil(folder / 'run/checkpoints/0')


def _spoilt(**options):
  return functools.partial(_saved, **options)


def _without_state(folder):
  shutil.rmtree(folder / 'state')


def _cut_arrays(folder):
  for path in (folder / 'state').rglob('*'):
    if path.is_file() and path.stat().st_size > 1000:
      path.write_bytes(path.read_bytes()[:500])


def _cut_metadata(folder):
  path = next(folder.glob('run/metadata'))
  path.write_text(path.read_text()[:40])


def _newer_metadata(folder):
  path = next(folder.glob('run/metadata'))
  content = json.loads(path.read_text())
  content['place']['epoch'] = 1
  path.write_text(json.dumps(content))


WORKDIRS = (
    Row('a file in place of the folder', '--workdir=data.npz',
        '--workdir=data.npz: data.npz is a file; choose another folder'),
    Row('a folder below a file', '--workdir=data.npz/run',
        '--workdir=data.npz/run: FOLDER/data.npz is a file; choose another '
        'folder'),
    Row('a folder that cannot be made', '--workdir=/proc/run',
        '--workdir=/proc/run cannot be made (No such file or directory); '
        'choose another folder'),
    Row('the folder of another config', '',
        'workdir run belongs to another config (there -> now): '
        'learning_rate: 0.1 -> 0.3; seed: 4 -> 3; choose another workdir',
        lambda folder: _claimed(folder, seed=4, learning_rate=0.1)),
    Row('checkpoints of nobody knows whom', '',
        'workdir run holds checkpoints but no config.json that says of which '
        'run; choose another workdir', _nobodys),
    Row('a config.json that was cut off', '',
        'run/config.json does not say whose folder this is (Unterminated '
        'string starting at: line 1 column 13 (char 12)); choose another '
        'workdir, or delete this one',
        _config_json(b'{"seed": 3, "opt')),
    Row('a config.json of something else', '',
        'run/config.json does not say whose folder this is (no JSON object); '
        'choose another workdir, or delete this one', _config_json(b'[1, 2]')),
    Row('a checkpoint without its arrays', '',
        'checkpoint FOLDER/run/checkpoints/0 is damaged or of another '
        'version (KeyError); delete it to go on from the one before, or '
        'choose another workdir',
        _spoilt(spoil=_without_state)),
    Row('a checkpoint whose arrays were cut off', '',
        'checkpoint FOLDER/run/checkpoints/0 is damaged or of another '
        'version (JSONDecodeError); delete it to go on from the one before, '
        'or choose another workdir',
        _spoilt(spoil=_cut_arrays)),
    Row('a checkpoint that does not say where it is', '',
        'checkpoint FOLDER/run/checkpoints/0 is damaged or of another '
        'version (JSONDecodeError); delete it to go on from the one before, '
        'or choose another workdir',
        _spoilt(spoil=_cut_metadata)),
    Row('a checkpoint of a newer version', '',
        'checkpoint FOLDER/run/checkpoints/0 is damaged or of another '
        'version (TypeError); delete it to go on from the one before, or '
        'choose another workdir',
        _spoilt(spoil=_newer_metadata)),
    Row('a checkpoint of another state', '',
        'checkpoint FOLDER/run/checkpoints/0 holds another state than this '
        'program makes (stored -> now): params/head/bias: (absent) -> '
        '["float32", [6]]; choose another workdir',
        _spoilt(drop='head/bias')),
    Row('a checkpoint of other batches', '',
        'the checkpoint was written with 16 images per step, this run would '
        'have 8 on 8 device(s): set config.per_device_batch_size (and '
        'replay.batch_size) so that they agree, or choose another workdir',
        _spoilt(rows=16)),
)
