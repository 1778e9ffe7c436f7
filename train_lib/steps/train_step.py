# SPDX-License-Identifier: Apache-2.0
"""The compiled steps: pure functions of arrays.

Whatever changes with the task is an argument (`TaskInfo`), so each step is
compiled once for all tasks.  Everything here runs per device inside a pmap
over `parallel.AXIS`.
"""

from collections.abc import Callable
import functools

import flax
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
import optax

from promptcl.models.classifier import PromptedClassifier
from promptcl.models.parts import base
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.core.parallel import AXIS
from promptcl.train_lib.steps import losses
from promptcl.train_lib.steps import optimizer as optimizer_lib

Array = jax.Array
Batch = dict[str, Array]


@flax.struct.dataclass
class TaskInfo:
  """What a step must know of the current task; same shapes for every task.

  Attributes:
    index: [] int32.
    class_mask: [C] bool, the task's classes.
    first_step: [] int32, `state.step` at the task's start.
    steps_per_epoch: [] int32.
  """

  index: Array
  class_mask: Array
  first_step: Array
  steps_per_epoch: Array

  @classmethod
  def create(cls, index: int, class_mask: np.ndarray, *, first_step: int,
             steps_per_epoch: int) -> 'TaskInfo':
    return cls(np.int32(index), np.asarray(class_mask, bool),
               np.int32(first_step), np.int32(steps_per_epoch))


def make_query(model: PromptedClassifier) -> Callable[..., base.Query]:
  """-> `query(frozen, images [B, s, s, 3]) -> Query`, on the pristine tree."""
  if not model.prompt.query_needs:
    return lambda frozen, images: base.Query()
  return lambda frozen, images: model.apply(
      state_lib.variables(frozen), images, method='query')


def image_keys(rng: Array, count: int) -> Array:
  """A random key for each of a device's `count` images.

  It depends on the image's place in the global batch, not on the device.
  """
  first = jax.lax.axis_index(AXIS) * count
  return jax.vmap(lambda i: jax.random.fold_in(rng, i))(
      first + jnp.arange(count))


def make_gradients(config: ConfigDict, model: PromptedClassifier,
                   method: base.Method, learning: base.Learning = base.PLAIN
                   ) -> Callable[..., tuple]:
  """-> `gradients(state, frozen, batch, task)`.

  It returns (loss, logits, grads, memory, named), see `losses.image_loss`; the
  L2 penalty is in the loss.  `grads` are averaged over all devices and cover
  the trainable leaves or, with `grad_clip_scope = 'all'`, every leaf of the
  prompted pass; they are 0 in what rests.
  """
  on_images = learning.loss is None
  loss_of = (losses.image_loss(config, model, method) if on_images
             else losses.row_loss(learning.loss))
  query_fn = make_query(model)
  penalty = optimizer_lib.penalty_weight(config)
  every_leaf = on_images and config.grad_clip_scope == 'all'
  rates = (*method.rates, *learning.rates)

  def loss_fn(params, *others):
    loss, beside = loss_of(params, *others)
    if penalty:
      loss += penalty * losses.l2_penalty(state_lib.overlay(others[0], params))
    return loss, beside

  def gradients(state, frozen, batch, task):
    query = query_fn(frozen, batch['image']) if on_images else None
    rng = jax.random.fold_in(jax.random.key(config.seed), state.step)
    keys = image_keys(rng, batch['label'].shape[0])
    rngs = {'dropout': jax.random.fold_in(rng, jax.lax.axis_index(AXIS))}
    params, rest = state.params, frozen
    if every_leaf:
      params, rest = state_lib.overlay(frozen, state.params), {}
    (loss, (logits, memory, named)), grads = jax.value_and_grad(
        loss_fn, has_aux=True)(
            params, rest, query, state, batch, task, rngs, keys)
    grads = optimizer_lib.at_rest(
        jax.lax.pmean(grads, AXIS),
        optimizer_lib.task_rates(rates, state.params, task))
    return loss, logits, grads, memory, named

  return gradients


def make_train_step(config: ConfigDict, model: PromptedClassifier,
                    method: base.Method,
                    optimizer: optax.GradientTransformationExtraArgs, *,
                    global_batch_size: int, metrics: type | None = None,
                    learning: base.Learning = base.PLAIN
                    ) -> Callable[..., tuple]:
  """-> `train_step(state, frozen, batch, task) -> (state, TrainMetrics)`.

  `metrics` replaces the CLU collection, so that a machine without CLU can run
  the step (benchmarks/measure.py).  `config` and `optimizer` are those of a
  phase, `global_batch_size` its rows, and `learning` how it learns.

  Per device, a batch holds `image` [B, s, s, 3] float32 and `label` [B] int32.
  Replay adds rows to them, and entries of float32 [B]:
    mask: 0 for padding, which must not vote on prompts.
    weight: of the row in the cross-entropy; 0 keeps it out.
    replayed: 1 for images of the store, see `losses.class_mask`.
  and, with `replay.masked`, bool `class_mask` [B, C].
  Whatever else is in the batch is for the method; a loss of its own wants
  `label` alone.  Metrics are gathered over all devices.
  """
  if metrics is None:
    from promptcl.train_lib.steps import train_metrics  # needs CLU
    metrics = train_metrics.TrainMetrics
  gradients = make_gradients(config, model, method, learning)
  rates = (*method.rates, *learning.rates)
  rate_fn = functools.partial(
      optimizer_lib.rate_and_floor,
      **optimizer_lib.schedule_options(config, global_batch_size))

  def train_step(state, frozen, batch, task):
    if config.weight_norm:
      state = state.replace(params=unit_head(state.params))
    loss, logits, grads, memory, named = gradients(state, frozen, batch, task)
    norm = optax.tree.norm(grads)
    rate, floor = rate_fn(
        state.step + 1 - task.first_step, task.steps_per_epoch)
    updates, opt_state = optimizer.update(
        {path: grads[path] for path in state.params}, state.opt_state,
        state.params, grad_norm=norm, learning_rate=rate, rate_floor=floor,
        memory=state.memory, task_index=task.index)
    updates = optimizer_lib.at_rates(updates, optimizer_lib.task_rates(
        rates, state.params, task))
    state = state.replace(
        step=state.step + 1, opt_state=opt_state, memory=memory,
        params=optax.apply_updates(state.params, updates))
    return state, metrics.gather_from_model_output(
        axis_name=AXIS, loss=loss, logits=logits, labels=batch['label'],
        learning_rate=rate, l2_grads=norm, weight=batch.get('weight'),
        losses={name: named.get(name) for name in method.loss_names})

  return train_step


def unit_head(params: dict[str, Array]) -> dict[str, Array]:
  """Divides each class's head weights by their norm (`weight_norm`)."""
  if 'head/kernel' not in params:
    return params
  kernel = params['head/kernel']
  norm = jnp.linalg.norm(kernel, axis=0, keepdims=True)
  return {**params, 'head/kernel': kernel / (norm + 1e-10)}
