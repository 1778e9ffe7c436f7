# SPDX-License-Identifier: Apache-2.0
"""Losses of a train step: of images and of rows that are none.

Pure functions of one device's arrays inside a pmap over `parallel.AXIS`; the
mean over devices is the loss.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import optax

from promptcl.models.classifier import PromptedClassifier
from promptcl.models.parts import base
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.core.parallel import AXIS

if TYPE_CHECKING:
  from promptcl.train_lib.steps.train_step import TaskInfo

Array = jax.Array
Batch = dict[str, Array]


def masked(logits: Array, class_mask: Array) -> Array:
  """Logits [B, C] with all classes outside the mask at minus infinity.

  The mask is [C], or [B, C] for one of its own per image.
  """
  return jnp.where(class_mask, logits, -jnp.inf)


def cross_entropy(logits: Array, labels: Array) -> Array:
  """[B, C], [B] -> [B]."""
  return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def l2_penalty(params: state_lib.FlatParams) -> Array:
  """Half the squared norm of all leaves with more than one axis."""
  return 0.5 * sum(jnp.sum(jnp.square(v)) for v in params.values()
                   if v.ndim > 1)


def class_mask(config: ConfigDict, batch: Batch, task: 'TaskInfo'
               ) -> Array | None:
  """Classes that the loss sees, [C] or [B, C]; None for all of them.

  `train_mask` holds for new images; replayed ones see all classes or, with
  `replay.masked`, those of the task that each came with.
  """
  if not config.continual.train_mask:
    return None
  if 'replayed' not in batch:
    return task.class_mask
  if config.replay.masked:
    return batch['class_mask']
  return task.class_mask | (batch['replayed'][:, None] > 0)


def mean_loss(logits: Array, batch: Batch) -> Array:
  """Cross-entropy of a device's batch; the mean over devices is the loss.

  With `weight` in the batch it is sum(weight * loss) / sum(weight) over all
  devices, so that it does not matter which device holds the padding.
  """
  losses = cross_entropy(logits, batch['label'])
  if 'weight' not in batch:
    return jnp.mean(losses)
  weight = batch['weight']
  total = jax.lax.pmean(jnp.sum(weight), AXIS)
  # Padding is of no class; its loss may be infinite, and 0 * inf is NaN.
  losses = jnp.where(weight > 0, losses, 0.0)
  return jnp.sum(weight * losses) / jnp.maximum(total, 1e-6)


def image_loss(config: ConfigDict, model: PromptedClassifier,
               method: base.Method) -> Callable[..., tuple]:
  """-> `loss(params, rest, query, state, batch, task, rngs, keys)`.

  Cross-entropy plus the weighted losses of prompt and method, of the prompted
  pass; it returns (loss, (logits, memory, named)).  `logits` are those it saw
  (masked), `memory` is the method's, after the step, and `named` the losses by
  name as they enter the sum, weights included.
  """
  # Whether somebody may look at logits that cross-entropy does not see.
  any_class = method.update_memory or method.extra_losses is not base.no_losses

  def context(state, params, query, batch, task, out):
    """What `method.extra_losses` receives."""
    def forward(trainable):
      whole = state_lib.overlay(jax.lax.stop_gradient(params), trainable)
      return model.apply(
          state_lib.variables(whole), batch['image'], query, jnp.int32(-1),
          train=False, mask=batch.get('mask'), memory=state.memory).logits

    return base.LossContext(
        params={path: params[path] for path in state.params},
        memory=state.memory, logits=out.logits, batch=batch, task=task,
        mask=batch.get('mask', jnp.ones(out.logits.shape[:1])),
        forward=forward, pre_logits=out.pre_logits, every_leaf=params)

  def loss_fn(params, rest, query, state, batch, task, rngs, keys):
    params = state_lib.overlay(rest, params)
    allowed = class_mask(config, batch, task)
    out = model.apply(
        state_lib.variables(params), batch['image'], query, task.index,
        train=True, mask=batch.get('mask'), memory=state.memory,
        image_keys=keys, rngs=rngs, classes=None if any_class else allowed)
    logits = out.logits
    if allowed is not None:
      logits = masked(logits, allowed)
    loss = mean_loss(logits, batch)
    seen = context(state, params, query, batch, task, out)
    losses = base.joined(out.selection.losses, method.extra_losses(seen))
    named = {name: method.loss_weights[name] * value
             for name, value in losses.items()}
    for value in named.values():
      loss += value
    memory = state.memory
    if method.update_memory:
      memory = method.update_memory(jax.lax.stop_gradient(seen))
    return loss, (logits, memory, named)

  return loss_fn


def row_loss(loss: base.RowLoss) -> Callable[..., tuple]:
  """A loss on rows that are no images, in the form of `image_loss`."""
  def loss_fn(params, rest, query, state, batch, task, rngs, keys):
    del query, rngs
    value, logits, named = loss(base.RowContext(
        params=state_lib.overlay(rest, params), memory=state.memory,
        batch=batch, task=task, keys=keys))
    return value, (logits, state.memory, named)

  return loss_fn
