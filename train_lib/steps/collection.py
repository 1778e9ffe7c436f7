# SPDX-License-Identifier: Apache-2.0
"""What hooks ask of images: the inputs of a `Space`, and features."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from promptcl.models.classifier import PromptedClassifier
from promptcl.models.networks import vit
from promptcl.models.parts import base
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.steps import train_step as steps

Array = jax.Array


def make_inputs(model: PromptedClassifier, spaces: Sequence[base.Space], *,
                embedded_query: bool) -> Callable[..., dict[str, Array]]:
  """-> `inputs(params, frozen, images) -> {space name: [B, R, D]}`, float32.

  R counts the inputs of an image: patches for tokens, these and the class token
  for sequences, 1 for keys, all tokens of the block for prefixes.  Each image
  is alone in its batch, so it chooses its prompts without a vote and its
  prefixes are paired correctly.

  Args:
    model: `PromptedClassifier`.
    spaces: of its prompt.
    embedded_query: choose prompts on the way to prefixes by the maximum over
      embedded tokens instead of the query, as the code of PGP does, which
      passes no query here.
  """
  query_fn = steps.make_query(model)
  layers = {space.layer: space.name for space in spaces
            if space.kind == 'prefix'}

  def one(params, frozen, image):
    images = image[None]
    whole = state_lib.variables(state_lib.overlay(frozen, params))
    patches = model.apply(
        whole, images, method=lambda m, x: m.backbone.embed(x))
    query = query_fn(frozen, images).replace(patches=patches)
    found = {space.name: patches for space in spaces if space.kind == 'token'}
    found |= {space.name: model.prompt.match_vector(query)[:, None]
              for space in spaces if space.kind == 'key'}
    if any(space.kind == 'sequence' for space in spaces):
      tokens = model.apply(whole, patches, method=_sequence)
      found |= {space.name: tokens for space in spaces
                if space.kind == 'sequence'}
    if layers:
      if embedded_query:
        query = query.replace(cls=_embedded_query(model, whole, images))
      found |= _attention_queries(model, whole, images, query, layers)
    return {name: x[0].astype(jnp.float32) for name, x in found.items()}

  return jax.vmap(one, in_axes=(None, None, 0))


def make_moments(inputs: Callable[..., dict[str, Array]]
                 ) -> Callable[..., dict[str, tuple[Array, Array]]]:
  """-> `moments(params, frozen, batch)`: sums over images with mask 1.

  Of each space sum x^T x [D, D] over its inputs, and how many there were.
  """
  def moments(params, frozen, batch):
    found = {}
    for name, x in inputs(params, frozen, batch['image']).items():
      x = x * batch['mask'][:, None, None]
      found[name] = (jnp.einsum('brd,bre->de', x, x, precision='highest'),
                     jnp.sum(batch['mask']) * x.shape[1])
    return found

  return moments


def make_features(model: PromptedClassifier, *, prompted: bool, seed: int
                  ) -> Callable[..., dict[str, Array]]:
  """-> `features(params, memory, frozen, batch, task_index)`, see the probe.

  Of one device: `label` [B], `query` [B, E], `pre_logits` [B, E].
  """
  query_fn = steps.make_query(model)

  def features(params, memory, frozen, batch, task_index):
    query = query_fn(frozen, batch['image'])
    found = {'label': batch['label']}
    vector = query.cls if query.embedding is None else query.embedding
    if vector is not None:
      found['query'] = vector
    if prompted:
      whole = state_lib.variables(state_lib.overlay(frozen, params))
      found['pre_logits'] = model.apply(
          whole, batch['image'], query, task_index, train=True, vote=False,
          memory=memory, rngs={'dropout': jax.random.key(seed)}).pre_logits
    return found

  return features


def _sequence(model: PromptedClassifier, patches: Array) -> Array:
  """[B, 1 + N, D] as prompts of the first block find it."""
  seen = {}

  def look(layer, tokens, carry):
    seen[layer] = tokens
    return vit.LayerPrompt(), carry

  model.backbone.encode(patches, prompt_at=look)
  return seen[0]


def _embedded_query(model: PromptedClassifier, variables: state_lib.Variables,
                    images: Array) -> Array:
  """[B, D]: maximum over class token and patches, positions added."""
  features = model.apply(variables, images, method=lambda m, x: m.backbone(x))
  return jnp.max(features.block_inputs[0].astype(jnp.float32), axis=1)


def _attention_queries(model: PromptedClassifier,
                       variables: state_lib.Variables, images: Array,
                       query: base.Query, layers: Mapping[int, str]
                       ) -> dict[str, Array]:
  """Query projections (with bias, unscaled) of blocks: {name: [B, T, D]}.

  Heads are merged, the first one first.
  """
  def encode(m, images, query):
    patches, selection = m.select(images, query, np.int32(-1), train=False)
    return m.backbone.encode(
        patches, prompt_at=m.prompt.at_layer, carry=selection.carry,
        read=vit.read_all)

  _, seen = model.apply(
      variables, images, query, method=encode,
      capture_intermediates=lambda module, _: module.name == 'query')
  blocks = seen['intermediates']['backbone']['Transformer']
  found = {}
  for layer, name in layers.items():
    [attention] = blocks[f'encoderblock_{layer}'].values()
    [queries] = attention['query']['__call__']
    found[name] = queries.reshape(*queries.shape[:2], -1)
  return found
