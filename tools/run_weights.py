# SPDX-License-Identifier: Apache-2.0
"""The backbone that a run of ours has trained.

A checkpoint of a run holds what training changed.  Leaves of the backbone that
stayed frozen are read from the file that the run started from.
"""

from collections.abc import Mapping
import json
import pathlib

import jax
import ml_collections
import numpy as np
import orbax.checkpoint as ocp

from promptcl.models.networks import backbones
from promptcl.models.weights import families
from promptcl.models.weights import pretrained
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.resume.checkpoint import ResumePoint

_BACKBONE = 'params/backbone/'


def read(workdir: str
         ) -> tuple[dict[str, np.ndarray], Mapping[str, object], str]:
  """Backbone after the newest task with a checkpoint.

  Args:
    workdir: of the run.

  Returns:
    Arrays under the names of `networks/vit.py`; `meta` for
    `formats.write_npz`; a remark for people.

  Raises:
    ValueError: no run, a backbone that did not train, or an incomplete one.
  """
  folder = pathlib.Path(workdir).absolute()
  point, state = _newest_state(folder / 'checkpoints')
  config = ml_collections.ConfigDict(
      json.loads((folder / 'config.json').read_text()))
  trained = {path.removeprefix(_BACKBONE): array for path, array
             in state.items() if path.startswith(_BACKBONE)}
  if not trained:
    raise ValueError('the backbone of this run stayed frozen, its weights are '
                     f'those of init_checkpoint {config.init_checkpoint!r}')
  arrays = _complete(trained, config)
  meta = {'family': f'{families.of_model(config.model_name).name}, trained',
          'exact_gelu': backbones.VARIANTS[config.model_name].exact_gelu,
          'input_range': _input_range(config), 'source': folder.name,
          'model_name': config.model_name, 'task': point.task}
  return arrays, meta, (f'{point}; {len(trained)} of {len(arrays)} arrays '
                        'were trained')


def _newest_state(folder: pathlib.Path
                  ) -> tuple[ResumePoint, dict[str, np.ndarray]]:
  """Point of the newest checkpoint and its train state, `{path: array}`.

  Reads and nothing else: the run may be going on.
  """
  numbers = [int(p.name) for p in folder.glob('*') if p.name.isdigit()]
  if not numbers:
    raise ValueError('is no workdir of a run: there are no checkpoints in it')
  path = folder / str(max(numbers))
  stored = json.loads((path / 'run/metadata').read_text())
  with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
    return ResumePoint(**stored['place']), reader.restore(
        path / 'state', args=ocp.args.StandardRestore())


def _complete(trained: dict[str, np.ndarray], config: ml_collections.ConfigDict
              ) -> dict[str, np.ndarray]:
  """Adds the leaves that stayed frozen, from the run's own start."""
  model = backbones.create(config.model_name, image_size=config.input_size)
  size = (1, config.input_size, config.input_size, 3)
  like = jax.eval_shape(model.init, jax.random.key(0),
                        jax.ShapeDtypeStruct(size, np.float32))['params']
  if state_lib.flatten(like).keys() == trained.keys():
    return trained
  if config.init_checkpoint == pretrained.RANDOM:
    raise ValueError('a part of the backbone stayed frozen at random weights, '
                     'which are in no file')
  start = state_lib.flatten(pretrained.from_config(config, like))
  return {**start, **trained}


def _input_range(config: ml_collections.ConfigDict) -> str:
  """What the run fed, as `config.input_range` names it."""
  if config.input_range != 'auto':
    return config.input_range
  return 'zero_one' if config.norm_01 else 'dataset'
