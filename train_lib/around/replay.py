# SPDX-License-Identifier: Apache-2.0
"""Replay as a part of any method: ER, DER++ and L2P-R are settings of it.

  ER      capacity, batch_size: new and replayed images in one batch, one mean
          of the cross-entropy over both.
  DER++   dark_weight (alpha) and label_weight (beta), policy reservoir:
          CE(new) + alpha * MSE(logits, stored logits) + beta * CE(replayed),
          the two terms on separate draws (Buzzega et al., 2020, eq. 6).  MSE is
          the mean over images and classes, as in the authors' code.
  L2P-R   ER on L2P with a class-balanced store and `train_mask`, which holds
          for new images only; review_epochs adds passes over the store alone
          after each task, with the same loss, the optimizer of the task and a
          learning-rate schedule that starts anew.

What differs from the papers: a draw takes an image again only after all others;
L2P-R augments replayed images afresh (the original kept augmented crops); how
long its review was is unpublished.

The pictures are in `input_pipeline.replay`.  Stored logits are in the train
state, so that no thread ever waits for a step: a table with a row per slot of
the store, written by the very step that trains on an image as it enters.
"""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from promptcl import input_pipeline
from promptcl.models.parts import base
from promptcl.models.parts import options
from promptcl.train_lib.core.parallel import AXIS
from promptcl.train_lib.steps import losses
from promptcl.train_lib.steps import train_step as steps

if TYPE_CHECKING:
  from promptcl.input_pipeline.pipeline import TaskStream

Array = jax.Array
_MEMORY = 'replay_logits'

OPTIONS = options.Section('replay', {
    'capacity': 0,  # images in the store; 0: no replay
    'policy': 'class_balanced',  # or reservoir
    'batch_size': 0,  # per device and step; 0: per_device_batch_size
    'masked': False,  # replayed images see their own task's classes
    'review_epochs': 0,  # over the store alone, after each task
    'label_weight': 1.0,  # of cross-entropy on replayed images
    'dark_weight': 0.0,  # of the distance to stored logits (DER++)
}, choices={'policy': ('class_balanced', 'reservoir')},
    check=input_pipeline.check_replay)


def wrap_stream(config: ConfigDict, stream: 'TaskStream'
                ) -> input_pipeline.ReplayStream:
  """The stream with a store, which stays empty without `replay.capacity`."""
  return input_pipeline.ReplayStream(config, stream)


def wrap(method: base.Method, config: ConfigDict, num_classes: int
         ) -> base.Method:
  """Adds what `config.replay` asks for to a method.

  Raises:
    ValueError: the store has no room for each class.
  """
  input_pipeline.check_replay(config, num_classes)
  replay = config.replay
  if replay.dark_weight:
    method = _with_dark_losses(method, replay, num_classes)
  if replay.review_epochs:
    method = method.with_part(phases=_review)
  return method


def described(config: ConfigDict) -> str:
  """What is replayed, for people; empty without replay."""
  replay = config.replay
  if not replay.capacity:
    return ''
  text = (f'store of {replay.capacity:,} images ({replay.policy}), '
          f'{replay.batch_size or config.per_device_batch_size} more rows a '
          'device and step')
  if replay.dark_weight and replay.label_weight:
    text += ', for stored logits and for labels each'
  if replay.review_epochs:
    text += f', {replay.review_epochs} epochs of review after each task'
  return text


def _review(stream: input_pipeline.ReplayStream, task: input_pipeline.Task
            ) -> tuple[base.Phase, ...]:
  """The review of the store after a task."""
  return (base.Phase('review', stream.review_schedule(task),
                     lambda made, probe: stream.review_batches(task, made)),)


def _with_dark_losses(method: base.Method, replay: ConfigDict, num_classes: int
                      ) -> base.Method:
  """DER++ on top of a method."""
  def update_memory(context):
    return {**context.memory, _MEMORY: written(
        context.memory[_MEMORY], context.logits, context.batch)}

  return method.with_part(
      loss_weights={'dark': replay.dark_weight,
                    'replayed': replay.label_weight},
      memory=lambda params: {
          _MEMORY: jnp.zeros((replay.capacity, num_classes), jnp.float32)},
      extra_losses=dark_losses, update_memory=update_memory)


def dark_losses(context: base.LossContext) -> dict[str, Array]:
  """Of one device, so that their mean over devices is that over all rows.

  Returns:
    dark: squared distance to stored logits, mean over images and classes.
    replayed: cross-entropy of the replayed images that are not compared and
      that the step's own cross-entropy leaves out.
  """
  batch = context.batch
  stored = context.memory[_MEMORY][batch['slot']]
  distance = jnp.mean(jnp.square(context.logits - stored), axis=-1)
  logits = context.logits
  if 'class_mask' in batch:
    logits = losses.masked(logits, batch['class_mask'])
  relabelled = (1 - batch['dark']) * batch['replayed'] * context.mask
  return {'dark': mean_over_devices(distance, batch['dark'] * context.mask),
          'replayed': mean_over_devices(
              losses.cross_entropy(logits, batch['label']),
              relabelled * (batch['weight'] == 0))}


def mean_over_devices(values: Array, weight: Array) -> Array:
  """A device's share of the mean [B]; 0 where no row has any weight."""
  total = jax.lax.pmean(jnp.sum(weight), AXIS)
  values = jnp.where(weight > 0, values, 0.0)
  return jnp.sum(weight * values) / jnp.maximum(total, 1e-6)


def written(table: Array, logits: Array, batch: steps.Batch) -> Array:
  """The table [capacity, C] with the logits of new images that are stored.

  A step gives each slot to one image at most, over all devices and hosts.
  """
  nowhere = table.shape[0]
  slots = jnp.where(batch['replayed'] > 0, nowhere, batch['slot'])
  slots, logits = (jax.lax.all_gather(x, AXIS, tiled=True)
                   for x in (slots, logits))
  return table.at[slots].set(logits.astype(table.dtype), mode='drop')
