# Copyright 2026 The JAX Continual Prompting Authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Random configs: each is prepared and traced, or refused in one line.

  python -m tests.wrong_inputs.random_configs 5000

Every key of `configs/base.py` may get a value of its kind, a value at or beyond
its border, or one of another type.
"""

import re
import sys
from typing import Any

import hypothesis
from hypothesis import strategies as st
import jax
import ml_collections
import numpy as np

from configs import base
from tests import fakes
from train_lib import config_values
from train_lib import eval_step
from train_lib import parallel
from train_lib import program as program_lib
from train_lib import replay
from train_lib import startup
from train_lib import state as state_lib
from train_lib import steps
from train_lib import train
from train_lib import workdir as workdir_lib

# What a user may be told; anything else is a defect.
REFUSALS = (ValueError, OSError)
_LEAVES = dict(config_values.leaves(base.get_config()))
_METHODS = ('l2p', 'dualprompt', 'none', '')
# Where the choices of a key are not in a table, or would fetch something.
_OWN = {
    'method': st.sampled_from((*_METHODS, 'l3p')),
    'model_name': st.sampled_from((fakes.VARIANT,) * 4 + ('ViT-G_1',)),
    'dataset': st.sampled_from(('', 'npz:', 'no/such', 'npz:a,npz:b', '*')),
    'init_checkpoint': st.sampled_from((None, 'random', 'no/such.npz', '~x')),
    'freeze_part': st.sampled_from(
        ((), ('encoder',), ('head',), ('',), ('prompt',), ('nothing',))),
    'learning_rate_multipliers': st.sampled_from(
        ((), (('head/.*', 2.0),), (('(', 2.0),), (('nothing', 1.0),), (3,))),
    'continual.class_order': st.sampled_from(
        ((), (5, 4, 3, 2, 1, 0), (0, 1), (0,) * 6)),
    'continual.domain_order': st.sampled_from(((), ('a',))),
}
_LAYERS = st.lists(st.integers(-1, 3), max_size=4).map(tuple)
_OTHER_TYPES = st.sampled_from(
    (None, True, 0, 1.5, 'x', '', (), ('x',), (1,), (None,), ((),),
     float('nan'), float('inf'), 10**30, 'a\nb', 'a\0b', '../..', '{}%s$(ls)'))


def values(key: str) -> st.SearchStrategy:
  """Values of a key, most of them of its type."""
  default = _LEAVES[key]
  if key in _OWN:
    right = _OWN[key]
  elif key in config_values.CHOICES:
    choices = st.sampled_from(config_values.CHOICES[key])
    right = st.lists(choices, max_size=3).map(tuple) if isinstance(
        default, tuple) else choices
  elif key.endswith('layer_idx'):
    right = _LAYERS
  elif isinstance(default, bool):
    right = st.booleans()
  elif isinstance(default, int):
    right = st.sampled_from((default, default, 1, 1, 2, 2, 3, 4, 8, 0, -1))
  elif isinstance(default, float):
    right = st.sampled_from((0.25, 0.5, 1.0, 3.0, 1e-30, 1e30, 0.0, -1.0))
  elif isinstance(default, tuple):
    right = st.sampled_from(((), (), ('x',)))
  else:
    right = st.sampled_from(('', '', 'x'))
  # Few of another type: one is enough to be refused, and hides what follows.
  return st.integers(0, 39).flatmap(lambda i: right if i else _OTHER_TYPES)


def changes() -> st.SearchStrategy:
  """`{dotted key: value}` of up to eight keys."""
  keys = st.lists(st.sampled_from(sorted(_LEAVES)), max_size=8, unique=True)
  return keys.flatmap(lambda chosen: st.fixed_dictionaries(
      {key: values(key) for key in chosen}))


def attempt(recipe: ml_collections.ConfigDict, changed: dict[str, Any]) -> str:
  """Prepares a changed recipe and traces its first step; compiles nothing.

  Returns:
    '' or the line that refuses it.
  """
  config = recipe.copy_and_resolve_references()
  with config.ignore_type():
    for key, value in changed.items():
      *groups, name = key.split('.')
      group = config
      for each in groups:
        group = group[each]
      group[name] = value
  try:
    config = startup.expand(config)
    startup.check(config)
    workdir_lib.check('run')
    program, stream = train.prepare(config)
    program_lib.plan(program, stream, 'run')
  except REFUSALS as error:
    line = ' '.join(str(error).split())
    assert line and not re.search('Traceback|0x[0-9a-f]{6}', line), line
    return line
  trace_steps(program, replay.wrap_stream(config, stream))
  return ''


def trace_steps(program: program_lib.Program, stream: Any) -> None:
  """The first train step and an evaluation after it, abstractly."""
  config, task = program.config, stream.tasks[0]
  frozen, trainable = program.split(program.shapes)
  state = jax.eval_shape(lambda params: state_lib.create(
      params, program.method, program.optimizer), trainable)
  info = steps.TaskInfo.create(task.index, task.class_mask, first_step=0,
                               steps_per_epoch=1)
  step = steps.make_train_step(
      config, program.model, program.method, program.optimizer,
      global_batch_size=stream.global_batch_size)
  batch = _sharded(next(iter(stream.batches(task))))
  state, frozen = _replicated(state), _replicated(frozen)
  after, _ = _traced(step, state, frozen, batch, shared=(info,))
  assert _shapes(after) == _shapes(state)
  batch = _sharded(next(iter(stream.eval_batches(stream.eval_sets[0]))))
  query = _traced(steps.make_query(program.model), frozen, batch['image'])
  _traced(eval_step.make_eval_step(config, program.model), state, frozen, batch,
          query, shared=(info, task.class_mask, np.bool_(True)))


def _traced(fn: Any, *arguments: Any, shared: tuple[Any, ...] = ()) -> Any:
  """Shapes of what `fn` returns on all devices."""
  axes = (0,) * len(arguments) + (None,) * len(shared)
  return jax.eval_shape(jax.vmap(fn, in_axes=axes, axis_name=parallel.AXIS),
                        *arguments, *shared)


def _replicated(tree: Any) -> Any:
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(
      (jax.device_count(), *x.shape), x.dtype), tree)


def _sharded(batch: Any) -> Any:
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(
      x.shape, x.dtype), parallel.shard(batch))


def _shapes(tree: Any) -> Any:
  return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


def main(count: int, recipe: ml_collections.ConfigDict) -> dict[str, int]:
  """Tries random configs; how many there were of each kind of answer."""
  seen = {}

  @hypothesis.settings(
      max_examples=count, deadline=None, database=None,
      suppress_health_check=list(hypothesis.HealthCheck))
  @hypothesis.given(changes())
  def every_config_runs_or_is_refused(changed):
    line = attempt(recipe, changed)
    kind = re.sub(r"'.*?'|[\d.-]+|\(.*?\)", '_', line)[:60]
    seen[kind] = seen.get(kind, 0) + 1

  every_config_runs_or_is_refused()
  return seen


if __name__ == '__main__':
  import pathlib
  import tempfile
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    tiny = fakes.bare_config(
        dataset=fakes.write_data(folder / 'data.npz'),
        init_checkpoint=fakes.write_checkpoint(folder / 'vit.npz'))
    found = main(int(sys.argv[1]), tiny)
  for text, number in sorted(found.items(), key=lambda item: -item[1]):
    print(f'{number:6} {text or "runs"}')
