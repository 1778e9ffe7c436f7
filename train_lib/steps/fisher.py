# SPDX-License-Identifier: Apache-2.0
"""Squared gradients of the log-likelihood, image by image."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from promptcl.models.classifier import PromptedClassifier
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.steps import losses
from promptcl.train_lib.steps import train_step as steps

# Values that the gradients of the images treated at once may take together.
_MAX_VALUES = 2**27


def make_add_squares(config: ConfigDict, model: PromptedClassifier
                     ) -> Callable[..., tuple[dict[str, jax.Array], jax.Array]]:
  """-> `add(total, known, frozen, batch, task)` for
  `Probe.squared_gradients`.

  `total` is ({path: sum of squares}, number of images), `known` trainable
  leaves and memory; of one device.
  """
  query_fn = steps.make_query(model)

  def log_likelihood(params, memory, frozen, image, label, query, task):
    whole = state_lib.overlay(frozen, params)
    one = lambda tree: jax.tree.map(lambda x: x[None], tree)
    logits = model.apply(
        state_lib.variables(whole), one(image), one(query), task.index,
        train=True, vote=False, memory=memory,
        rngs={'dropout': jax.random.key(config.seed)}).logits
    allowed = losses.class_mask(config, {}, task)
    if allowed is not None:
      logits = losses.masked(logits, allowed)
    return -losses.cross_entropy(logits, one(label))[0]

  def add(total, known, frozen, batch, task):
    params, memory = known
    query = query_fn(frozen, batch['image'])

    def squares(rows):
      image, label, mask, query = rows
      grads = jax.grad(log_likelihood)(
          params, memory, frozen, image, label, query, task)
      return jax.tree.map(lambda g: mask * jnp.square(g), grads)

    def add_rows(sums, rows):
      found = jax.vmap(squares)(rows)
      return jax.tree.map(lambda s, f: s + jnp.sum(f, axis=0), sums, found), 0

    size = rows_at_once(batch['label'].shape[0], params)
    rows = jax.tree.map(
        lambda x: x.reshape(-1, size, *x.shape[1:]),
        (batch['image'], batch['label'], batch['mask'], query))
    sums, _ = jax.lax.scan(add_rows, total[0], rows)
    return sums, total[1] + jnp.sum(batch['mask'])

  return add


def rows_at_once(batch_size: int, params: state_lib.FlatParams) -> int:
  """Largest divisor of the batch whose images' gradients fit together.

  Each image has gradients of its own, so a whole ViT-B is done one by one.
  """
  num_values = sum(np.size(leaf) for leaf in jax.tree.leaves(params))
  return max(size for size in range(1, batch_size + 1)
             if batch_size % size == 0 and (
                 size == 1 or size * num_values <= _MAX_VALUES))
