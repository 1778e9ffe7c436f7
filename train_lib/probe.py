# SPDX-License-Identifier: Apache-2.0
"""What hooks may ask of the model between tasks.

  probe = Probe(program, stream, frozen)              # once a run
  state = method.end_task(state, task.index, probe.at(task))
  squares = probe.squared_gradients(state)            # in the hook

Nothing is computed or compiled before a hook asks, so methods without questions
pay nothing.  All hosts ask alike, and each question is compiled once a run.
"""

from collections.abc import Callable, Iterator, Sequence
import copy
from typing import TYPE_CHECKING

import jax
import numpy as np

from promptcl.input_pipeline.streams.task_stream import Task
from promptcl.models.parts import base
from promptcl.train_lib.core import parallel
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.program import Program
from promptcl.train_lib.records import run_log
from promptcl.train_lib.steps import collection
from promptcl.train_lib.steps import fisher
from promptcl.train_lib.steps import train_step as steps

if TYPE_CHECKING:
  from promptcl.input_pipeline.pipeline import TaskStream


class Probe:
  """Asks the model about the training images of a task.

  Attributes:
    program, stream: of the run.
    frozen: replicated frozen parameters.
    task: of the stream, the one that begins or ends; None before `at`.
    state: `state()`, the unreplicated train state as a phase asks for its
      batches, until the first of them is used; None in hooks, which are given
      one.
    devices: None for all.
    log: the `RunLog`; None for none.
  """

  def __init__(self, program: Program, stream: 'TaskStream',
               frozen: state_lib.FlatParams, devices: parallel.Devices = None,
               log: run_log.RunLog | None = None):
    self.program, self.stream, self.frozen = program, stream, frozen
    self.task: Task | None = None
    self.state: Callable[[], state_lib.TrainState] | None = None
    self.devices, self.log = devices, log
    self._compiled: dict[str, Callable[..., parallel.PyTree]] = {}

  def at(self, task: Task,
         state: Callable[[], state_lib.TrainState] | None = None) -> 'Probe':
    """The probe of a task; what is compiled is shared."""
    other = copy.copy(self)
    other.task, other.state = task, state
    return other

  def squared_gradients(self, state: state_lib.TrainState
                        ) -> dict[str, np.ndarray]:
    """Diagonal of the empirical Fisher information of the task.

    F_i = mean over the task's training images of (d log p(y | x) / d theta_i)^2
    with the square taken image by image and y the true label: equation 3 of
    Kirkpatrick et al., Overcoming catastrophic forgetting in neural networks
    (PNAS 2017), with labels of the data where theirs are drawn from the model,
    as most public code has it.  p is the softmax over the classes that the
    training loss sees.  Images are prepared as for a test; each chooses its
    prompts as in training, but without a vote, so that batches do not matter.

    Args:
      state: unreplicated, at the parameters in question.

    Returns:
      `{path: array of the leaf's shape}`, alike on all hosts.
    """
    total = jax.tree.map(np.zeros_like, dict(state.params))
    add = self._pmap('squares', lambda: fisher.make_add_squares(
        self.program.config, self.program.model), in_axes=(0, 0, 0, 0, None))
    total = self._sum_over_images(
        add, (total, np.zeros((), np.float32)),
        (dict(state.params), state.memory))
    return {path: leaf / total[1] for path, leaf in total[0].items()}

  def write(self, state: state_lib.TrainState, values: dict[str, float]
            ) -> None:
    """Writes scalars of the task at the step of an unreplicated state."""
    if self.log is not None and values:
      self.log.scalars(int(state.step), values)

  def inputs(self, state: state_lib.TrainState, spaces: Sequence[base.Space],
             *, count: int, augment: bool, embedded_query: bool
             ) -> dict[str, np.ndarray]:
    """Inputs of spaces, for images of the task drawn anew.

    Every host computes all of them, image by image.

    Args:
      state: unreplicated.
      spaces: alike in all questions of a run, as is `embedded_query`.
      count: images, 0 for all of the task.
      augment: images as in training, else as in a test.
      embedded_query: see `collection.make_inputs`.

    Returns:
      `{space name: float32 [count, R * D]}`; at ViT-B/16 and 768 images 440 MiB
      for each space but keys.
    """
    ask = self._pmap('inputs', lambda: _of_batch(collection.make_inputs(
        self.program.model, spaces, embedded_query=embedded_query)),
                     in_axes=(0, 0, 0))
    count, first, inputs = count or self.task.num_examples, 0, {}
    for batch in self._ask_drawn(ask, state, count, augment):
      for name, x in batch.items():
        x = x.reshape(-1, x.shape[-2] * x.shape[-1])[:count - first]
        if name not in inputs:
          inputs[name] = np.empty((count, x.shape[1]), np.float32)
        inputs[name][first:first + len(x)] = x
      first += len(x)
    return inputs

  def input_moments(self, state: state_lib.TrainState,
                    spaces: Sequence[base.Space], *, count: int, augment: bool,
                    embedded_query: bool) -> dict[str, np.ndarray]:
    """Mean of x^T x over the inputs x [1, D] that `inputs` has.

    Returns:
      `{space name: float64 [D, D]}`.
    """
    ask = self._pmap('moments', lambda: collection.make_moments(
        collection.make_inputs(self.program.model, spaces,
                               embedded_query=embedded_query)),
                     in_axes=(0, 0, 0))
    count, moments = count or self.task.num_examples, {}
    for batch in self._ask_drawn(ask, state, count, augment):
      for name, sums in batch.items():
        before = moments.get(name, (0.0, 0.0))
        moments[name] = tuple(x + np.sum(y, axis=0, dtype=np.float64)
                              for x, y in zip(before, sums, strict=True))
    return {name: x / total for name, (x, total) in moments.items()}

  def frozen_leaf(self, path: str) -> np.ndarray:
    """A frozen parameter, on the host."""
    return parallel.unreplicate(self.frozen[path])

  def features(self, state: state_lib.TrainState | None, *,
               augment: bool = False) -> dict[str, np.ndarray]:
    """What the model makes of each training image of the task.

    Args:
      state: unreplicated, for the prompted pass: with the prompts that an image
        of the task has in training, but without a vote; None for no such pass.
      augment: images as in training, else as in a test.

    Returns:
      `{'label': int32 [N], 'query': ..., 'pre_logits': ...}`, float32 [N, E],
      as far as there is a query and a prompted pass; in an order that depends
      on (seed, task) alone, alike on all hosts.
    """
    prompted = state is not None
    ask = self._pmap(f'features {prompted}', lambda: collection.make_features(
        self.program.model, prompted=prompted, seed=self.program.config.seed),
                     in_axes=(0, 0, 0, 0, None))
    of_state = parallel.replicate(
        (dict(state.params), state.memory) if prompted else ({}, {}),
        self.devices)
    batches = self.stream.drawn_batches(
        self.task, self.task.num_examples, augment=augment)
    parts = [parallel.local(ask(*of_state, self.frozen, batch,
                                np.int32(self.task.index)))
             for batch in parallel.prefetch(batches, self.devices)]
    return {name: np.concatenate(
        [part[name].reshape(-1, *part[name].shape[2:]) for part in parts]
    )[:self.task.num_examples] for name in parts[0]}

  def _ask_drawn(self, ask: Callable[..., parallel.PyTree],
                 state: state_lib.TrainState, count: int, augment: bool
                 ) -> Iterator[parallel.PyTree]:
    """`ask(params, frozen, batch)`, this host's results [n, ...]."""
    params = parallel.replicate(dict(state.params), self.devices)
    batches = self.stream.drawn_batches(
        self.task, min(count, self.task.num_examples), augment=augment)
    for batch in parallel.prefetch(batches, self.devices):
      yield parallel.local(ask(params, self.frozen, batch))

  def _sum_over_images(self, add: Callable[..., parallel.PyTree],
                       zero: parallel.PyTree, of_state: parallel.PyTree
                       ) -> parallel.PyTree:
    """`add(total, of_state, frozen, batch, info)` over the task's images.

    Args:
      add: pmapped; each device has a total of its own.
      zero: total before the first batch, on the host.
      of_state: what the state gives, on the host.

    Returns:
      Total over all batches, devices and hosts, on the host.
    """
    task = self.task
    info = steps.TaskInfo.create(
        task.index, task.class_mask, first_step=0, steps_per_epoch=1)
    of_state = parallel.replicate(of_state, self.devices)
    total = parallel.replicate(zero, self.devices)
    batches = self.stream.clean_batches(task)
    for batch in parallel.prefetch(batches, self.devices):
      total = add(total, of_state, self.frozen, batch, info)
      jax.block_until_ready(total)  # no more than two batches wait
    merge = self._pmap('merge', lambda: (
        lambda tree: jax.lax.psum(tree, parallel.AXIS)), in_axes=0)
    return parallel.unreplicate(merge(total))

  def _pmap(self, name: str, make: Callable[[], Callable[..., parallel.PyTree]],
            *, in_axes: parallel.Axes) -> Callable[..., parallel.PyTree]:
    """The compiled function of that name, made when it is first needed."""
    if name not in self._compiled:
      self._compiled[name] = parallel.pmap(
          make(), in_axes=in_axes, devices=self.devices)
    return self._compiled[name]


def _of_batch(inputs: Callable[..., dict[str, jax.Array]]
              ) -> Callable[..., dict[str, jax.Array]]:
  return lambda params, frozen, batch: inputs(params, frozen, batch['image'])
