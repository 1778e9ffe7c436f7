# SPDX-License-Identifier: Apache-2.0
"""What a method consists of: its prompt, losses, memory and hooks.

All parts but the prompt default to doing nothing.  What works with any method
(a regularizer, replay) is a function from one `Method` to another, see
`Method.with_part`.
"""

from collections.abc import Callable, Mapping
import dataclasses
import itertools
from typing import Any, TYPE_CHECKING

import flax
import flax.linen as nn
import jax
import optax

from promptcl.models.parts.phases import Hook
from promptcl.models.parts.phases import keep_state
from promptcl.models.parts.phases import Learning
from promptcl.models.parts.phases import one_phase
from promptcl.models.parts.phases import Phase
from promptcl.models.parts.phases import Rate

if TYPE_CHECKING:
  from promptcl.input_pipeline.pipeline import TaskStream
  from promptcl.input_pipeline.streams.task_stream import Task
  from promptcl.train_lib.steps.train_step import TaskInfo

Array = jax.Array
Check = Callable[
    ['TaskStream', Mapping[str, jax.ShapeDtypeStruct]], None]


@flax.struct.dataclass
class LossContext:
  """What an extra loss may look at: one device's part of a train step.

  Attributes:
    params: flat trainable leaves; gradients flow into these.
    memory: the whole `TrainState.memory`.
    logits: [B, C] float32 of the prompted pass, no class masked.
    batch: `image` [B, s, s, 3], `label` [B] and what replay adds, see
      `steps.make_train_step`.
    task: `steps.TaskInfo`, its arrays traced.
    mask: [B] float32, 0 for padding; ones where the batch has none.
    forward: `forward(params)` -> logits [B, C] of the same images with other
      trainable leaves, as at test time (no task index, no dropout); costs a
      pass only if it is called.
    pre_logits: [B, E] of the prompted pass, what the head reads.
    every_leaf: flat, all leaves of the model, frozen ones included.
  """

  params: Mapping[str, Array]
  memory: Any
  logits: Array
  batch: Mapping[str, Array]
  task: 'TaskInfo'
  mask: Array
  forward: Callable[[Mapping[str, Array]], Array] = flax.struct.field(
      pytree_node=False)
  pre_logits: Array | None = None
  every_leaf: Mapping[str, Array] | None = None


# Inside the train step; named scalars to be minimised, of one device (the
# step averages over devices), which the method's `loss_weights` weigh.
ExtraLosses = Callable[[LossContext], Mapping[str, Array]]


# Inside the train step, after the gradients: the whole new `TrainState.memory`,
# the same on every device (gather over `parallel.AXIS` what differs).
UpdateMemory = Callable[[LossContext], dict]

def no_losses(context: LossContext) -> Mapping[str, Array]:
  """The extra losses of a method that has none."""
  del context
  return {}


@dataclasses.dataclass(frozen=True)
class HeatMap:
  """A picture of numbers.

  Attributes:
    values: [R, C].
    title, ylabel, xlabel: what they are, their rows and their columns.
  """

  values: Array
  title: str
  ylabel: str
  xlabel: str


@dataclasses.dataclass(frozen=True)
class Overlays:
  """A picture of where in images something happens.

  Attributes:
    images: [R, s, s, 3], one per row, in any range.
    maps: [R, C, N] nonnegative numbers for the N patches, row by row.
    title: what they are.
    columns: name of each map.
  """

  images: Array
  maps: Array
  title: str
  columns: tuple[str, ...]


# `pictures(shown)`: named pictures for the log after a task.  `shown` has for
# each evaluation set so far a few of its `image`s and, under its name, what the
# prompt sowed as flax intermediates for them: a tuple, one entry per call.
Pictures = Callable[[Mapping[int, Mapping[str, Any]]],
                    Mapping[str, HeatMap | Overlays]]


# Fresh flat parameters of the whole model -> those that the run starts from.
Fill = Callable[[Mapping[str, Array]], Mapping[str, Array]]
# At each start of a run: `start(class_names)`, names by head column, complains
# before anything is compiled; what it returns fills in what is computed once,
# such as embeddings of class names, and leaves out leaves that nothing needs
# after that.  Must give the same at each start.
Start = Callable[[tuple[str, ...]], Fill]


def as_drawn(class_names: tuple[str, ...]) -> Fill:
  """The start of a method whose start values are those that are drawn."""
  del class_names
  return lambda params: params


@dataclasses.dataclass(frozen=True)
class Method:
  """What a method adds to the plain frozen ViT with a head.

  Attributes:
    prompt: what is learned beside the head.
    loss_weights: weight of each entry of `Selection.losses` and of what
      `extra_losses` returns.
    memory: params -> fixed-shape arrays that outlive a task, a dictionary with
      one entry per part under the part's name; they live beside the optimizer
      state and are in every checkpoint.
    transform: link of the optimizer chain, after clipping; receives
      `memory=state.memory` as an extra argument.
    rates: what rests, and what learns at a rate of its own, in which task.
    step_transform: another one, of what the optimizer makes of the gradients,
      before the learning rate; None for none.
    begin_task, end_task: hooks.
    extra_losses: terms of the loss beyond cross-entropy and the prompt's own.
    update_memory: changes the memory in every step; None for never.
    phases: `phases(stream, task)`, what a task consists of, in order.
    learning: how phases of other kinds than the plain one learn, by kind.
    start: `start(class_names)`, what makes of fresh parameters those that a
      run starts from.
    check: `check(stream, shapes)` before anything is compiled, with the flat
      shapes of all parameters; raises ValueError if the method cannot learn
      from the stream.
    pictures: what it shows of itself.
  """

  prompt: nn.Module
  loss_weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
  memory: Callable[[Any], Any] = lambda params: {}
  transform: optax.GradientTransformation = optax.identity()
  rates: tuple[Rate, ...] = ()
  step_transform: optax.GradientTransformation | None = None
  begin_task: Hook = keep_state
  end_task: Hook = keep_state
  extra_losses: ExtraLosses = no_losses
  update_memory: UpdateMemory | None = None
  phases: Callable[['TaskStream', 'Task'], tuple[Phase, ...]] = one_phase
  learning: Mapping[str, Learning] = dataclasses.field(default_factory=dict)
  start: Start = as_drawn
  check: Check = lambda stream, shapes: None
  pictures: Pictures = lambda shown: {}

  @property
  def loss_names(self) -> tuple[str, ...]:
    """Losses beside cross-entropy that a run may report, of all its phases."""
    of_rows = (way.losses for way in self.learning.values())
    return tuple(sorted({*self.loss_weights, *itertools.chain(*of_rows)}))

  def with_part(self, **parts: Any) -> 'Method':
    """The method with more of everything: `parts` are attributes but `prompt`.

    What it has comes first: hooks, changes of the memory and checks run one
    after the other, transforms are chained, phases follow, and what `start`
    fills in is filled in further.

    Raises:
      ValueError: a name of losses, memory, learning or pictures is there twice.
    """
    return dataclasses.replace(self, **{
        name: _JOIN[name](getattr(self, name), part)
        for name, part in parts.items()})


def joined(first: Mapping[str, Any], second: Mapping[str, Any]
           ) -> dict[str, Any]:
  """Both, as one dictionary.

  Raises:
    ValueError: a name is in both.
  """
  if twice := sorted(set(first) & set(second)):
    raise ValueError(f'two parts of a method both name {", ".join(twice)}')
  return {**first, **second}


def _results(first: Callable[..., Any], second: Callable[..., Any]
             ) -> Callable[..., Any]:
  """A function whose dictionary has what both return."""
  return lambda argument: joined(first(argument), second(argument))


def _losses(first: ExtraLosses, second: ExtraLosses) -> ExtraLosses:
  """All losses of two."""
  if second is no_losses:
    return first
  return second if first is no_losses else _results(first, second)


def _in_turn(first: Hook, second: Hook) -> Hook:
  """One hook after the other."""
  if second is keep_state:
    return first
  if first is keep_state:
    return second
  return lambda state, task_index, probe: second(
      first(state, task_index, probe), task_index, probe)


def _memory_in_turn(first: UpdateMemory | None, second: UpdateMemory | None
                    ) -> UpdateMemory | None:
  """The second sees what the first left."""
  if first is None or second is None:
    return first or second
  return lambda context: second(context.replace(memory=first(context)))


def _steps_chained(first: optax.GradientTransformation,
                   second: optax.GradientTransformation
                   ) -> optax.GradientTransformation:
  """Links of the optimizer chain, None for none."""
  if first is None or second is None:
    return first or second
  return optax.chain(first, second)


def _starts(first: Start, second: Start) -> Start:
  """Fills in what the first start wants, then what the second does."""
  def start(class_names):
    fills = first(class_names), second(class_names)
    return lambda params: fills[1](fills[0](params))

  return start


def _checks(first: Check, second: Check) -> Check:
  """Both checks."""
  def check(stream, shapes):
    first(stream, shapes)
    second(stream, shapes)

  return check


# How an attribute of a method takes one more part.
_JOIN: Mapping[str, Callable[[Any, Any], Any]] = {
    'loss_weights': joined,
    'memory': _results,
    'transform': optax.chain,
    'rates': lambda first, second: (*first, *second),
    'step_transform': _steps_chained,
    'begin_task': _in_turn,
    'end_task': _in_turn,
    'extra_losses': _losses,
    'update_memory': _memory_in_turn,
    'phases': lambda first, second: lambda stream, task: (
        *first(stream, task), *second(stream, task)),
    'learning': joined,
    'start': _starts,
    'check': _checks,
    'pictures': _results,
}
