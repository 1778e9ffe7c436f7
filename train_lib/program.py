# SPDX-License-Identifier: Apache-2.0
"""From a checked config and a task stream to what training needs."""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
from typing import TYPE_CHECKING, TypeVar

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from promptcl.input_pipeline.streams.task_stream import Task
from promptcl.models import classifier
from promptcl.models.networks import backbones
from promptcl.models.parts import base
from promptcl.models.weights import pretrained
from promptcl.train_lib.around import projection
from promptcl.train_lib.around import rebalancing
from promptcl.train_lib.around import regularization
from promptcl.train_lib.around import replay
from promptcl.train_lib.core import parallel
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.startup import controls
from promptcl.train_lib.steps import optimizer as optimizer_lib

if TYPE_CHECKING:
  from promptcl.input_pipeline.pipeline import TaskStream

Leaf = TypeVar('Leaf', jax.Array, jax.ShapeDtypeStruct)
RANDOM = pretrained.RANDOM  # value of init_checkpoint


@dataclasses.dataclass(frozen=True)
class Program:
  """Model, method, optimizer and pretrained weights of one run.

  Attributes:
    config: checked and expanded.
    model, method, optimizer: what the steps are made of.
    backbone_params: pretrained tree on the host, or None for random weights.
    draw: random parameters of the whole model, see `state.random_params`.
    fill: what the method makes of fresh parameters, see `method.Fill`.
  """

  config: ml_collections.FrozenConfigDict
  model: classifier.PromptedClassifier
  method: base.Method
  optimizer: optax.GradientTransformationExtraArgs
  backbone_params: parallel.PyTree
  draw: state_lib.Draw
  fill: base.Fill = base.as_drawn(())

  @functools.cached_property
  def shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
    """Flat `{path: shape}` of the whole model."""
    return state_lib.shapes(self.draw)

  def split(self, params: Mapping[str, Leaf]
            ) -> tuple[dict[str, Leaf], dict[str, Leaf]]:
    """Flat parameters (or shapes) -> (frozen, trainable)."""
    return state_lib.partition(params, self.config.freeze_part,
                               self.config.thaw,
                               query_pass=bool(self.model.prompt.query_needs))

  def start(self) -> tuple[dict[str, jax.Array], state_lib.TrainState]:
    """Frozen parameters and the state before the first step; compiles."""
    params = state_lib.initial_params(
        self.draw, self.backbone_params, seed=self.config.seed)
    frozen, trainable = self.split(self.fill(params))
    return frozen, state_lib.create(trainable, self.method, self.optimizer)


def create(config: ml_collections.ConfigDict, num_classes: int,
           class_names: Sequence[str] = (), *, num_tasks: int = 0) -> Program:
  """Builds the program and reads the checkpoint; compiles nothing.

  Args:
    config: checked and expanded.
    num_classes: C.
    class_names: by head column; () if the program will not be started.
    num_tasks: T; 0 without a stream: as many as the config says.

  Raises:
    FileNotFoundError, ValueError, OSError: the checkpoint is missing, cannot
      be fetched or does not fit.
  """
  backbone = backbones.create(config.model_name, image_size=config.input_size,
                              dtype=jnp.dtype(config.dtype))
  stream = base.StreamInfo(
      num_classes, num_tasks or config.continual.num_tasks, tuple(class_names))
  model, method = classifier.build(config, stream, backbone)
  controls.check(config, model.prompt)
  # What comes later acts later: its hooks see what earlier ones did, its phases
  # follow theirs, and projection is of all gradients.
  method = method.with_part(rates=optimizer_lib.later_rates(config))
  method = regularization.wrap(method, config, num_classes)
  method = projection.wrap(method, config)
  method = replay.wrap(method, config, num_classes)
  draw = state_lib.random_params(model, image_size=config.input_size)
  shapes = state_lib.shapes(draw)
  method = rebalancing.wrap(method, config, shapes)
  like = {k.removeprefix('backbone/'): v for k, v in shapes.items()
          if k.startswith('backbone/')}
  weights = pretrained.from_config(config, unflatten(like))
  optimizer = optimizer_of(config, method)
  start = method.start if class_names else base.as_drawn
  program = Program(config, model, method, optimizer, weights, draw,
                    start(tuple(class_names)))
  _check_trainable(program)
  return program


def _check_trainable(program: Program) -> None:
  """Refuses rules over parameters that select nothing.

  Raises:
    ValueError: no leaf of a method that trains does, or a rule matches none.
  """
  _, trainable = program.split(program.shapes)
  if not trainable and program.method.phases is not base.no_phases:
    raise ValueError(f'config.freeze_part {tuple(program.config.freeze_part)} '
                     'freezes every parameter, nothing is left to train')
  jax.eval_shape(
      lambda params: state_lib.create(params, program.method, program.optimizer
                                      ).opt_state, trainable)
  optimizer_lib.check_rates(program.method.rates, trainable)
  for learning in program.method.learning.values():
    check_learning(program, learning)


def check_learning(program: Program, learning: base.Learning) -> None:
  """Whether phases of a kind can take turns with the plain one.

  Raises:
    ValueError: their optimizers remember other things, a rule matches no leaf,
      or rows do not divide among devices.
  """
  _, trainable = program.split(program.shapes)
  optimizer_lib.check_rates(learning.rates, trainable)
  other = optimizer_of(config_of(program.config, learning), program.method)
  moments = [jax.eval_shape(o.init, trainable)
             for o in (program.optimizer, other)]
  if jax.tree.structure(moments[0]) != jax.tree.structure(moments[1]):
    raise ValueError(f'config.optim {program.config.optim} does not go with '
                     f'the {learning.config["optim"]} of the method')
  if (learning.batch_size or 0) % jax.device_count():
    raise ValueError(f'the method learns from {learning.batch_size} rows a '
                     f'step, which {jax.device_count()} devices cannot share')


def config_of(config: ml_collections.ConfigDict, learning: base.Learning
              ) -> ml_collections.FrozenConfigDict:
  """The config of a kind of phases."""
  # A frozen config hands out its groups, not copies, to whoever thaws it.
  config = ml_collections.ConfigDict(config).copy_and_resolve_references()
  config.update_from_flattened_dict(learning.config)
  return ml_collections.FrozenConfigDict(config)


def optimizer_of(config: ml_collections.ConfigDict, method: base.Method
                 ) -> optax.GradientTransformationExtraArgs:
  """The optimizer that a config asks for around a method."""
  return optimizer_lib.create(config, method.transform, method.step_transform)


def unflatten(flat: Mapping[str, Leaf]) -> parallel.PyTree:
  """`{slash path: leaf}` -> nested tree."""
  return state_lib.variables(flat)['params']


def num_steps(program: Program, stream: 'TaskStream') -> list[int]:
  """Optimizer steps of each task, over all its phases."""
  return [sum(phase.schedule.num_steps
              for phase in program.method.phases(stream, task))
          for task in stream.tasks]


def steps_on_images(program: Program, stream: 'TaskStream', task: Task) -> int:
  """Optimizer steps of a task that make the prompted pass."""
  kinds = {'': base.PLAIN, **program.method.learning}
  return sum(phase.schedule.num_steps
             for phase in program.method.phases(stream, task)
             if kinds[phase.kind].loss is None)


def num_elements(leaves: Mapping[str, Leaf]) -> int:
  """Number of parameters in flat leaves or shapes."""
  return sum(int(np.prod(x.shape)) for x in leaves.values())


def plan(program: Program, stream: 'TaskStream', workdir: str) -> str:
  """What is about to happen, for people: printed at start and by --dry_run."""
  config = program.config
  frozen, trainable = program.split(program.shapes)
  moments = 1 if config.optim == 'sgd' else 2
  size = 4 * (num_elements(frozen) + (1 + moments) * num_elements(trainable))
  tasks = stream.tasks
  steps = num_steps(program, replay.wrap_stream(config, stream))
  images = [t.num_examples for t in tasks]
  batch = stream.global_batch_size
  rate = optimizer_lib.schedule_options(config, batch)['base']
  rows = [
      ('method', f'{config.method} on {config.model_name}, '
       f'{config.input_size} px, {config.dtype}'),
      ('weights', str(config.init_checkpoint)),
      ('data', f'{stream.dataset_name}: {_range(images)} training images a '
       f'task, {sum(e.num_examples for e in stream.eval_sets)} test images'),
      ('tasks', f'{len(tasks)}, {stream.num_classes} classes in all'),
      ('steps', f'{_range(steps)} a task, {sum(steps)} in all '
       f'({config.num_epochs} epochs)'),
      ('batch', f'{batch} images on {jax.device_count()} device(s), '
       f'learning rate {rate:.6g}'),
      ('parameters', f'{num_elements(trainable):,} trainable, '
       f'{num_elements(frozen):,} frozen'),
      ('memory', f'{size / 2**20:.1f} MiB a device for parameters and '
       'optimizer (activations not counted)'),
      ('results', workdir),
  ]
  if store := replay.described(config):
    rows.insert(-1, ('replay', store))
  return '\n'.join(f'  {name:<11}{text}' for name, text in rows)


def _range(values: list[int]) -> str:
  low, high = min(values), max(values)
  return f'{low}' if low == high else f'{low} to {high}'
