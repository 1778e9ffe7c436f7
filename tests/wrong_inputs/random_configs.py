# SPDX-License-Identifier: Apache-2.0
"""Random configs: each is prepared and traced, or refused in one line.

  python -m tests.wrong_inputs.random_configs 5000 20

That traces 5000 and runs 20 of those that are accepted.

Every key of a config may get a value of its kind, a value at or beyond
its border, or one of another type.
"""

import collections
import pathlib
import re
import sys
import tempfile
from typing import Any

import hypothesis
from hypothesis import strategies as st
import jax
import ml_collections
import numpy as np

from promptcl.configs import base
from promptcl.models import prompts
from promptcl.train_lib import program as program_lib
from promptcl.train_lib import train
from promptcl.train_lib.around import replay
from promptcl.train_lib.core import parallel
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.resume import workdir as workdir_lib
from promptcl.train_lib.startup import config_values
from promptcl.train_lib.startup import startup
from promptcl.train_lib.steps import eval_step
from promptcl.train_lib.steps import train_step as steps
from tests.helpers import fakes

# What a user may be told; anything else is a defect.
REFUSALS = (ValueError, OSError, FloatingPointError)
_LEAVES = dict(config_values.leaves(base.get_config()))
_CHOICES = config_values.rules().choices
_METHODS = (*prompts.available(), '')
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
  elif key in _CHOICES:
    choices = st.sampled_from(_CHOICES[key])
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


def changed_recipe(recipe: ml_collections.ConfigDict, changed: dict[str, Any]
                   ) -> ml_collections.ConfigDict:
  """A copy with other values, of whatever type."""
  config = recipe.copy_and_resolve_references()
  with config.ignore_type():
    for key, value in changed.items():
      *groups, name = key.split('.')
      group = config
      for each in groups:
        group = group[each]
      group[name] = value
  return config


def attempt(recipe: ml_collections.ConfigDict, changed: dict[str, Any],
            workdir: str = '') -> str:
  """Prepares a changed recipe and traces its steps, or runs it in `workdir`.

  Returns:
    '' or the line that refuses it.
  """
  try:
    config = startup.expand(changed_recipe(recipe, changed))
    startup.check(config)
    workdir_lib.check(workdir or 'run')
    program, stream = train.prepare(config)
    program_lib.plan(program, stream, workdir)
    if workdir:
      workdir_lib.make(workdir)
      assert train.train_and_evaluate(program, stream, workdir).finished
  except REFUSALS as error:
    line = ' '.join(str(error).split())
    assert line and not re.search('Traceback|0x[0-9a-f]{6}', line), line
    return line
  if not workdir:
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


def accepted(count: int, recipe: ml_collections.ConfigDict, **settings: Any
             ) -> tuple[list[dict[str, Any]], collections.Counter]:
  """Tries random configs.

  Args:
    count: how many.
    recipe: that they change.
    **settings: more of hypothesis.

  Returns:
    Changes that can run, and how many were refused with each kind of line.
  """
  good, refused = [], collections.Counter()

  @hypothesis.settings(
      max_examples=count, deadline=None, database=None,
      suppress_health_check=list(hypothesis.HealthCheck), **settings)
  @hypothesis.given(changes())
  def every_config_runs_or_is_refused(changed):
    if line := attempt(recipe, changed):
      refused[re.sub(r"'.*?'|[\d.-]+|\(.*?\)", '_', line)[:60]] += 1
    else:
      good.append(changed)

  every_config_runs_or_is_refused()
  return good, refused


def spread(found: list[Any], count: int) -> list[Any]:
  """Some that are far apart; neighbours are often variations of one."""
  return found[::-max(1, len(found) // count)][:count]


def main(count: int, num_runs: int) -> None:
  """Prints what became of random configs."""
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    tiny = fakes.bare_config(
        dataset=fakes.write_data(folder / 'data.npz'),
        init_checkpoint=fakes.write_checkpoint(folder / 'vit.npz'))
    good, refused = accepted(count, tiny)
    for text, number in refused.most_common():
      print(f'{number:6} {text}')
    print(f'{len(good):6} can run')
    for i, changed in enumerate(spread(good, num_runs)):
      line = attempt(tiny, changed, str(folder / f'run{i}'))
      print(f'{changed}: {line or "ran"}', flush=True)


if __name__ == '__main__':
  main(*map(int, sys.argv[1:]))
