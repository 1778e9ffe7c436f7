# SPDX-License-Identifier: Apache-2.0
"""Prompt gradient projection, around any method that has prompts.

Qiao et al., Prompt Gradient Projection for Continual Learning (ICLR 2024).
Gradients of prompts lose their part in a subspace that old tasks use.  For each
`Space` of the prompt there is a basis F [D, r]; the rows g of its gradients
become g - (g F) F^T, after clipping and before the optimizer.  Adam scales each
coordinate by itself, so its steps do not stay orthogonal to F; the run tells
how far they leave (`pgp_angle_...`), and `pgp.project_step` projects them, too.

  released  what the authors' code computes: F from principal component scores
            of D images, so that it lives among image numbers and not among
            coordinates of embeddings, plus for tokens those of the prompts
            themselves (beside patch embeddings from the second task on).
            Before each task with tokens beside patch embeddings, else after it.
  paper     what their derivation asks for: F from second moments of the old
            inputs themselves and, for tokens, of the prompts beside them (both
            conditions, so that neither swamps the other each counts by its
            share of its own energy).  After each task.

`pgp.random_directions` is the control: as many columns, drawn at random.

Keys are protected beside tokens and not beside prefixes, whose value half is
free as well.  What a task trains with is fixed when it begins: nothing of its
own, and nothing at all in the first.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from promptcl.models.parts import base
from promptcl.models.parts import options
from promptcl.models.parts.spaces import AS_TOKENS
from promptcl.models.parts.spaces import KINDS
from promptcl.train_lib.around import orthogonal
from promptcl.train_lib.around import subspace
from promptcl.train_lib.core.state import TrainState

if TYPE_CHECKING:
  from promptcl.input_pipeline.pipeline import TaskStream
  from promptcl.train_lib.probe import Probe

Array = jax.Array
_MEMORY = orthogonal.MEMORY


def check(config: ConfigDict) -> None:
  """Refuses what the variant `paper` does not have.

  Raises:
    ValueError: one line, names the key.
  """
  pgp = config.pgp
  if pgp.enabled and pgp.variant == 'paper' and (
      pgp.prompt_term, pgp.energy_power, pgp.first_task_rule) not in [
          (term, 4, 'exclusive') for term in ('auto', 'stack', 'none')]:
    raise ValueError(
        'config.pgp.variant paper knows pgp.prompt_term auto, stack and none; '
        'leave pgp.energy_power and pgp.first_task_rule as they are')


OPTIONS = options.Section('pgp', {
    'enabled': False,
    'variant': 'released',  # bases among image numbers; or paper: among
    # embeddings
    'collect': 'auto',  # before or after a task; auto: before in variant
    # released with prompts as tokens
    'augment': True,  # collected images, as in training
    'num_images': 0,  # collected in variant paper; 0: all of the task
    'token_components': 9,  # of variant released
    'sequence_components': 5,
    'key_components': 5,
    'prefix_components': 50,
    'token_epsilon': 0.5,  # share of energy that a basis holds
    'sequence_epsilon': 0.9,
    'key_epsilon': 0.97,
    'prefix_epsilon': 0.5,
    'energy_power': 4,  # of singular values; or 2, variant released
    'first_task_rule': 'exclusive',  # of the component that crosses epsilon; or
    # inclusive, as later tasks have it, variant released
    'prompt_term': 'auto',  # of tokens: sum (auto in variant released), stack
    # (auto in paper) beside the inputs; or none
    'random_directions': False,  # control: as many, drawn at random
    'project_step': False,  # the optimizer's step as well
}, choices={
    'variant': ('released', 'paper'),
    'collect': ('auto', 'before', 'after'),
    'energy_power': (4, 2),
    'first_task_rule': ('exclusive', 'inclusive'),
    'prompt_term': ('auto', 'sum', 'stack', 'none'),
}, positive=tuple(f'{kind}_{setting}' for kind in KINDS
                  for setting in ('components', 'epsilon')),
    not_negative=('num_images',), check=check)


def wrap(method: base.Method, config: ConfigDict) -> base.Method:
  """`method` with the projection that `config.pgp` asks for, or as it is.

  Memory, for each space: `active` [D, cap], the basis that projects in the
  current task, and `known`, with all that was collected; unused columns are
  zero.  `rank` [] int32 counts those of `known`; `started` [] bool is whether
  it was ever grown.

  Raises:
    ValueError: there is nothing to protect, or not where it stands.
  """
  if not config.pgp.enabled:
    return method
  spaces = protected(method.prompt)
  before = collects_before(config, spaces)

  def memory(params):
    return {_MEMORY: {space.name: _empty(config, space, params)
                      for space in spaces}}

  def begin_task(state, task_index, probe):
    bases = {name: {**basis, 'active': basis['known']}
             for name, basis in state.memory[_MEMORY].items()}
    state = state.replace(opt_state=orthogonal.zeroed(state.opt_state),
                          memory={**state.memory, _MEMORY: bases})
    return grown(config, spaces, state, probe) if before else state

  def end_task(state, task_index, probe):
    probe.write(state, orthogonal.scalars(state))
    return state if before else grown(config, spaces, state, probe)

  return method.with_part(
      memory=memory, begin_task=begin_task, end_task=end_task,
      transform=orthogonal.project_gradients(spaces),
      step_transform=orthogonal.measure_steps(
          spaces, project=config.pgp.project_step),
      check=lambda stream, shapes: _check_images(
          config, stream, shapes[spaces[0].leaves[0][0]].shape[-1]))


def protected(prompt: base.Prompt) -> tuple[base.Space, ...]:
  """The spaces of a prompt that projection knows how to protect.

  Raises:
    ValueError: see `wrap`.
  """
  spaces = prompt.spaces
  tokens = [space for space in spaces if space.kind in AS_TOKENS]
  if any(space.layer for space in tokens):
    raise ValueError(
        'config.pgp.enabled protects prompt tokens in layer 0 only; set '
        'e_prompt_layer_idx and g_prompt_layer_idx to (0,), or use prefixes')
  if not tokens:
    spaces = tuple(space for space in spaces if space.kind == 'prefix')
  if not spaces:
    raise ValueError('config.pgp.enabled finds no prompt tokens or prefixes to '
                     'protect; switch it off or choose another method')
  return spaces


def collects_before(config: ConfigDict, spaces: Sequence[base.Space]) -> bool:
  """Whether inputs are collected before a task and not after it."""
  if config.pgp.collect != 'auto':
    return config.pgp.collect == 'before'
  return config.pgp.variant == 'released' and any(
      space.kind == 'token' for space in spaces)


def grown(config: ConfigDict, spaces: Sequence[base.Space], state: TrainState,
          probe: 'Probe') -> TrainState:
  """The state with what the probe's task uses added to `known`."""
  pgp, bases = config.pgp, dict(state.memory[_MEMORY])
  released = pgp.variant == 'released'
  ask = probe.inputs if released else probe.input_moments
  width = _width(bases)
  inputs = ask(state, spaces, count=width if released else pgp.num_images,
               augment=pgp.augment, embedded_query=released)
  for space in spaces:
    basis = bases[space.name]
    old = np.asarray(basis['known'])[:, :int(basis['rank'])]
    enlarge = _released if released else _paper
    new = enlarge(config, space, state, old, inputs.pop(space.name))
    if pgp.random_directions:
      new = subspace.random_like(
          old, new.shape[1], (config.seed, probe.task.index, *map(
              ord, space.name)))
    known = np.zeros_like(basis['known'])
    rank = min(new.shape[1], known.shape[1])
    known[:, :rank] = new[:, :rank]
    # Hosts may differ in the last bit of a decomposition, and must not.
    bases[space.name] = {**basis, **multihost_utils.broadcast_one_to_all({
        'known': known, 'rank': np.int32(rank), 'started': np.bool_(True)})}
  return state.replace(memory={**state.memory, _MEMORY: bases})


def _released(config: ConfigDict, space: base.Space, state: TrainState,
              old: np.ndarray, inputs: np.ndarray) -> np.ndarray:
  """The basis after `inputs` [D, m] of D images, one image a row."""
  pgp = config.pgp
  count = pgp[f'{space.kind}_components']
  started = bool(state.memory[_MEMORY][space.name]['started'])
  sums = subspace.scores(inputs, count)
  first = space.kind == 'token' and not started  # collected before a task
  if space.kind in AS_TOKENS and not first and pgp.prompt_term != 'none':
    prompts = subspace.scores(_own_rows(space, state).T, count)
    if pgp.prompt_term == 'stack':
      sums = np.concatenate([sums, prompts], axis=1)
    else:
      sums[:, :prompts.shape[1]] += prompts
  return subspace.grow(
      old if started else None, sums, pgp[f'{space.kind}_epsilon'],
      power=pgp.energy_power, inclusive=pgp.first_task_rule == 'inclusive')


def _paper(config: ConfigDict, space: base.Space, state: TrainState,
           old: np.ndarray, moment: np.ndarray) -> np.ndarray:
  """The basis after inputs of second moment [D, D]."""
  if space.kind in AS_TOKENS and config.pgp.prompt_term != 'none':
    prompts = _own_rows(space, state)
    moment = subspace.stacked((moment, prompts.T @ prompts))
  return subspace.grow_by_moment(old, moment,
                                 config.pgp[f'{space.kind}_epsilon'])


def _own_rows(space: base.Space, state: TrainState) -> np.ndarray:
  """Current rows [n, D] of a space, float64."""
  return np.concatenate([np.asarray(rows, np.float64).reshape(
      -1, rows.shape[-1]) for rows in space.rows(state.params)])


def _empty(config: ConfigDict, space: base.Space, params: Mapping[str, Array]
           ) -> dict[str, Array]:
  width = params[space.leaves[0][0]].shape[-1]
  zeros = lambda: jnp.zeros((width, capacity(config, space, width)))
  return {'active': zeros(), 'known': zeros(), 'rank': jnp.int32(0),
          'started': jnp.bool_(False)}


def capacity(config: ConfigDict, space: base.Space, width: int) -> int:
  """Columns that a basis may ever need.

  A call of `released` adds no more than its components, unless it is asked for
  more energy than there is.
  """
  stream, pgp = config.continual, config.pgp
  counted = (stream.scenario == 'class' and not stream.init_cls
             and not config.gaussian_schedule)
  if pgp.variant != 'released' or not counted or (
      pgp[f'{space.kind}_epsilon'] >= 1):
    return width
  kinds = 2 if space.kind in AS_TOKENS and pgp.prompt_term == 'stack' else 1
  return min(width,
             kinds * pgp[f'{space.kind}_components'] * stream.num_tasks)


def _width(bases: Mapping[str, Mapping[str, Array]]) -> int:
  return next(iter(bases.values()))['known'].shape[0]


def _check_images(config: ConfigDict, stream: 'TaskStream', width: int) -> None:
  """Variant `released` needs D images of each task.

  Raises:
    ValueError: a task has fewer.
  """
  if config.pgp.variant != 'released':
    return
  for each in stream.tasks:
    if each.num_examples < width:
      raise ValueError(
          f'config.pgp.variant released needs {width} training images of each '
          f'task, as many as the model is wide, but task {each.index + 1} has '
          f'{each.num_examples}; choose paper')
