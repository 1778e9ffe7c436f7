# SPDX-License-Identifier: Apache-2.0
"""What a task consists of: phases, each with steps, data and a way to learn.

A method of one phase, the plain one, says nothing.  One with more names them in
`Method.phases`, and in `Method.learning` how those of other kinds learn:

  learning = {'align': Learning({'optim': 'adamw', 'learning_rate': 1e-4},
                                batch_size=256, loss=align_loss)}
  phases = lambda stream, task: (*one_phase(stream, task), Phase(
      'align', schedule, batches, kind='align', begin=store_statistics))
"""

from collections.abc import Callable, Iterable, Mapping
import dataclasses
from typing import Any, TYPE_CHECKING

import flax
import jax
import numpy as np

if TYPE_CHECKING:
  from promptcl.input_pipeline.pipeline import TaskStream
  from promptcl.input_pipeline.streams.order import Schedule
  from promptcl.input_pipeline.streams.task_stream import Task
  from promptcl.train_lib.core.state import TrainState
  from promptcl.train_lib.probe import Probe
  from promptcl.train_lib.steps.train_step import TaskInfo

Array = jax.Array


def keep_state(state: 'TrainState', task_index: int, probe: 'Probe | None'
               ) -> 'TrainState':
  """The hook that does nothing."""
  del task_index, probe
  return state


# Host side, between steps: `hook(state, task_index, probe)` on the unreplicated
# train state (numpy leaves); every host calls it alike.  Must keep tree
# structure, shapes and dtypes; returns the very same object when it changes
# nothing.
#   probe: a `train_lib.probe.Probe`; None where there are no data, and a hook
#     of a method then does what it can without.  Hooks of phases and of parts
#     around a method always get one.
#   task_index: from 0; may be beyond the last task.  There are no slots for
#     such a task, and a hook changes none.
Hook = Callable[['TrainState', int, 'Probe | None'], 'TrainState']

# (regex over whole leaf paths, `factor(task)` of a `steps.TaskInfo`): what the
# steps of these leaves are multiplied by in a task, by broadcasting.  Where it
# is 0 nothing moves, and the gradient counts nowhere.
Rate = tuple[str, Callable[['TaskInfo'], Array]]


@flax.struct.dataclass
class RowContext:
  """What a loss on rows may look at: one device's part of a train step.

  Attributes:
    params: flat, all leaves of the model; gradients flow into trainable ones.
    memory: the whole `TrainState.memory`.
    batch: the device's part of what the phase's `batches` gave.
    task: `steps.TaskInfo`, its arrays traced.
    keys: [B] random keys, one per row, alike on any number of devices.
  """

  params: Mapping[str, Array]
  memory: Any
  batch: Mapping[str, Array]
  task: 'TaskInfo'
  keys: Array


# `loss(context) -> (loss [], logits [B, C], named)`: the mean over a device's
# rows, and those of its terms, as they enter it, that have a name in the log.
RowLoss = Callable[[RowContext], tuple[Array, Array, Mapping[str, Array]]]


@dataclasses.dataclass(frozen=True)
class Learning:
  """How phases of one kind learn.

  Attributes:
    config: keys of the run's config that have another value: `optim`,
      `weight_decay`, `learning_rate` (for 256 rows), `num_epochs`, ...
    rates: what rests, and what learns at another rate, in such a phase.
    loss: of rows that are no images; None: batches hold images, which make the
      prompted pass, and the loss is that of the plain phase.
    batch_size: rows of a step over all devices and hosts; None: the stream's.
    losses: names of the terms that `loss` names.
  """

  config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  rates: tuple[Rate, ...] = ()
  loss: RowLoss | None = None
  batch_size: int | None = None
  losses: tuple[str, ...] = ()


PLAIN = Learning()  # as the config says


@dataclasses.dataclass(frozen=True)
class Phase:
  """A part of a task with steps of its own.

  Attributes:
    name: `train`, `review`, ...
    schedule: an `order.Schedule`; the learning rate starts anew.
    batches: `batches(made, probe)`, host batches of all steps but the `made`
      first, all of one structure; they hold this host's share of the images,
      or all rows of the step where the kind has a loss of its own.  Whatever
      it takes from `probe.state()` it takes at once, not as it yields.
    kind: a key of `Method.learning`, and then its optimizer is new; '' for a
      phase that learns as the config says, with the optimizer that is there.
    begin: hook before the first step, also of a phase without steps.
  """

  name: str
  schedule: 'Schedule'
  batches: Callable[[int, 'Probe'], Iterable[Mapping[str, np.ndarray]]]
  kind: str = ''
  begin: Hook = keep_state


def one_phase(stream: 'TaskStream', task: 'Task') -> tuple[Phase, ...]:
  """The phases of a method that trains on the task's images and no more."""
  return (Phase('train', stream.schedule(task),
                lambda made, probe: stream.batches(task, made)),)


def no_phases(stream: 'TaskStream', task: 'Task') -> tuple[Phase, ...]:
  """The phases of a method that trains on nothing."""
  del stream, task
  return ()
