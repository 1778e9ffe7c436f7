# SPDX-License-Identifier: Apache-2.0
"""Losses of IT-Prompt, as pure functions of arrays.

Memory `it_prompt`: `owner` int32 [C], task of each class, -1 before it arrives;
`anchors` [C, E], sentence embeddings (or prototypes) of classes that have
arrived; `queries` and `features`, statistics of the two passes' embeddings.
"""

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import optax

from promptcl.models.heads import heads
from promptcl.models.networks import similarity
from promptcl.models.parts import base
from promptcl.models.parts import class_statistics

Array = jax.Array
MEMORY = 'it_prompt'
_NEVER = -1e30  # not infinite: before the first task it is that of all classes
_unit = similarity.l2_normalize
_cross_entropy = optax.softmax_cross_entropy_with_integer_labels


def query(embedding: Array, kernel: Array, bias: Array) -> Array:
  """q = unit(z + z A + a) of z = unit(embedding): [B, E] -> [B, E]."""
  z = _unit(embedding)
  return _unit(z + z @ kernel + bias)


def quantization(q: Array, keys: Array) -> tuple[Array, Array]:
  """Squared distances of queries to their keys [B, E]: two of [B].

  Returns:
    codebook (moves keys alone), commitment (moves queries alone).
  """
  stop = jax.lax.stop_gradient
  return (jnp.sum(jnp.square(stop(q) - keys), axis=-1),
          jnp.sum(jnp.square(q - stop(keys)), axis=-1))


def seen_logits(scale: Array, x: Array, rows: Array, memory: Any) -> Array:
  """exp(scale) <x, rows> [B, C] of classes so far, see `seen`."""
  return seen(jnp.exp(scale) * x @ rows.T, memory)


def seen(logits: Array, memory: Any) -> Array:
  """Logits [B, C] with classes still to come at a very low number."""
  return jnp.where(memory['owner'] >= 0, logits, _NEVER)


def selector_loss(options: ConfigDict, context: base.RowContext
                  ) -> tuple[Array, Array, dict[str, Array]]:
  """Cross-entropy of keys, quantization, and the anchors of keys.

  Rows: `vector` [B, E], or for those that are `drawn` a draw of class `label`;
  `weight` [B], of mean 1 over all rows.

  Returns:
    The loss, logits [B, C] of classes so far, and its terms `codebook`,
    `commitment` and `anchor`, weighted.
  """
  params, batch = context.params, context.batch
  memory, label = context.memory[MEMORY], context.batch['label']
  vectors = jnp.where(batch['drawn'][:, None], class_statistics.draw(
      memory['queries'], label, jnp.zeros_like(label), context.keys),
                      batch['vector'])
  with jax.default_matmul_precision('highest'):
    q = query(vectors, params['prompt/fc_kernel'], params['prompt/fc_bias'])
    keys = _unit(params['prompt/keys'])
    logits = seen_logits(params['prompt/scale'], q, keys, memory)
  codebook, commitment = quantization(q, keys[label])
  each = (_cross_entropy(logits, label) + options.codebook * codebook
          + options.commitment * commitment)
  anchor = jnp.mean(jnp.sum(jnp.square(keys - memory['anchors']), axis=-1),
                    where=memory['owner'] >= 0)
  loss = jnp.mean(batch['weight'] * each) + options.anchor * anchor
  mean = lambda x: jnp.mean(batch['weight'] * x)
  return loss, logits, {
      'codebook': options.codebook * mean(codebook),
      'commitment': options.commitment * mean(commitment),
      'anchor': options.anchor * anchor}


def alignment_loss(head: heads.Head, context: base.RowContext
                   ) -> tuple[Array, Array, dict[str, Array]]:
  """Cross-entropy of draws of features, all classes so far competing.

  Rows: `label` [B], the class that each is drawn from.

  Returns:
    The loss, logits [B, C], and no terms of it.
  """
  memory, label = context.memory[MEMORY], context.batch['label']
  vectors = class_statistics.draw(
      memory['features'], label, jnp.zeros_like(label), context.keys)
  own = {path.removeprefix('head/'): leaf for path, leaf
         in context.params.items() if path.startswith('head/')}
  with jax.default_matmul_precision('highest'):
    logits = head.apply({'params': own}, vectors)
  logits = seen(logits, memory)
  return jnp.mean(_cross_entropy(logits, label)), logits, {}


def text_guide(context: base.LossContext) -> dict[str, Array]:
  """Draws prompted features to their own anchor, from those of classes so far.

  Its gradient is that of a contrastive loss between images and sentences.
  """
  memory, mask = context.memory[MEMORY], context.mask
  logits = seen_logits(context.every_leaf['prompt/scale'],
                       _unit(context.pre_logits), memory['anchors'], memory)
  # A row that is padding may be of any class.
  each = jnp.where(mask > 0, _cross_entropy(logits, context.batch['label']),
                   0.0)
  return {'text_guide': jnp.sum(each) / jnp.maximum(jnp.sum(mask), 1.0)}
