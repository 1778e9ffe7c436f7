# SPDX-License-Identifier: Apache-2.0
"""L2P: a prompt pool queried by the frozen ViT's class token.

Wang et al., Learning to Prompt for Continual Learning, CVPR 2022; options and
arithmetic of google-research/l2p.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from promptcl.models.networks import vit
from promptcl.models.parts import base
from promptcl.models.parts import pool_options
from promptcl.models.parts import prompt_pool
from promptcl.models.parts import spaces as spaces_lib

Array = jax.Array
_POOL = 'prompt/prompt_pool'
OPTIONS = pool_options.OPTIONS


class L2P(base.Prompt):
  """E-prompts from a pool, as tokens or as prefixes, in one or more layers.

  Attributes:
    layers: indices of the prompted layers, ascending; empty means no pool.
    num_heads: of the backbone.
    pool_options: keyword arguments of `PromptPool`.
    reweight: learn the weights of the prompt outputs in the read-out.
    with_positions: tokens stand behind the class token and have positions, as
      in the first release of the original; else in front of it without.
  """

  layers: tuple[int, ...]
  num_heads: int
  pool_options: Mapping[str, Any]
  reweight: bool = False
  with_positions: bool = False

  def setup(self):
    if self.layers:
      self.prompt_pool = prompt_pool.PromptPool(
          num_layers=len(self.layers), **self.pool_options)
    if self.reweight:
      self.weights = self.param(
          'reweight', prompt_pool.initializer('uniform'), (self.num_tokens,))

  @property
  def token_layers(self) -> tuple[int, ...]:
    """Layers that E-prompts enter as tokens."""
    return () if self.pool_options['prefix'] else self.layers

  @property
  def num_tokens(self) -> int:
    """Prompt tokens A that the read-out counts."""
    each = self.pool_options['length'] * self.pool_options['top_k']
    return each * len(self.token_layers) + self.dropped_tokens

  @property
  def num_positions(self) -> int:
    return self.num_tokens if self.with_positions else 0

  @property
  def query_needs(self) -> tuple[str, ...]:
    by_class_token = self.pool_options['embedding_key'] == 'cls'
    return ('cls',) if self.layers and by_class_token else ()

  @property
  def has_pool(self) -> bool:
    return bool(self.layers)

  @property
  def choices(self) -> tuple[str, ...]:
    if not self.has_pool:
      return ('key',)
    belong = self.pool_options['use_prompt_mask']
    return ('key', 'random', *('oracle',) * belong)

  @property
  def has_tokens(self) -> bool:
    return bool(self.token_layers)

  @property
  def votes(self) -> bool:
    return self.has_pool and self.pool_options['batchwise_prompt']

  @property
  def order_matters(self) -> bool:
    return self.reweight or self.num_positions > 0

  @property
  def spaces(self) -> tuple[base.Space, ...]:
    found, prefix = [], self.pool_options['prefix']
    for i, layer in enumerate(self.layers):
      name, index = (f'layer_{layer}', (i, 0)) if prefix else ('tokens', (i,))
      found.append(base.Space(name, 'prefix' if prefix else 'token', (
          (f'{_POOL}/prompt', index),), layer))
    if self.layers and self.pool_options['prompt_key']:
      found.append(base.Space('keys', 'key', ((f'{_POOL}/key', ()),)))
    return spaces_lib.merged(found)

  def match_vector(self, query):
    key = self.pool_options['embedding_key']
    return prompt_pool.embedding_query(query, key) if self.layers else None

  def select(self, query, task_index, *, train, vote=None, memory=None,
             **options):
    del memory
    if not self.layers:
      return base.Selection()
    return self.prompt_pool.select(
        query, task_index, train=train,
        vote=self.votes if vote is None else vote, **options)

  def at_layer(self, layer, tokens, carry):
    if layer not in self.layers:
      return vit.LayerPrompt(), carry
    picked = carry[self.layers.index(layer)]
    if self.pool_options['prefix']:
      picked = base.split_heads(picked, self.num_heads)
      return vit.LayerPrompt(prefix=picked), carry
    return vit.LayerPrompt(tokens=picked), carry

  def pool(self, outputs):
    if not self.reweight:
      return super().pool(outputs)
    return jnp.einsum('bad,a->bd', outputs, jax.nn.softmax(self.weights))


def options(config: ConfigDict, backbone: vit.VisionTransformer
            ) -> dict[str, Any]:
  """Keyword arguments of `L2P` from a config."""
  names = ('pool_size', 'length', 'top_k', 'embedding_key', 'prompt_key',
           'prompt_key_init', 'initializer', 'batchwise_prompt',
           'use_prompt_mask', 'prefix_pairing')
  pool_options = {name: config.prompt_pool_param[name] for name in names}
  pool_options.update(
      prefix=config.use_prefix_tune_for_e_prompt, width=backbone.width)
  layers = config.e_prompt_layer_idx if config.use_e_prompt else ()
  return dict(layers=tuple(sorted(layers)), num_heads=backbone.num_heads,
              pool_options=pool_options, reweight=config.reweight_prompt,
              with_positions=config.prompt_position == 'after_cls')


def method(config, prompt: base.Prompt) -> base.Method:
  """Pull loss and copying between tasks, as `config` asks for them.

  Raises:
    ValueError: prompts cannot be placed or chosen as `config` says.
  """
  _check(config, prompt)
  param = config.prompt_pool_param
  names = (('prompt',) if param.shared_prompt_pool else ()) + (
      ('key',) if param.shared_prompt_key else ())
  weights = {'pull': config.pull_constraint_coeff * config.pull_constraint}

  def begin_task(state, task_index, probe):
    del probe
    return state.replace(params=prompt_pool.hand_on(
        state.params, task_index, top_k=param.top_k, names=names))

  return base.Method(prompt, weights,
                     begin_task=begin_task if names else base.keep_state)


def _check(config, prompt: L2P) -> None:
  places = (*prompt.token_layers, *[-1] * prompt.dropped_tokens)
  if prompt.with_positions and set(places) - {0}:
    raise ValueError("config.prompt_position 'after_cls' has room for prompt "
                     'tokens in layer 0 only; leave the others out of '
                     'e_prompt_layer_idx and g_prompt_layer_idx, or use '
                     'before_cls')
  if config.prompt_choice != 'key' and not prompt.has_pool:
    raise ValueError(f'config.prompt_choice {config.prompt_choice!r} needs a '
                     'pool to choose from: set use_e_prompt, or use key')
  if prompt.has_pool and 'oracle' not in prompt.choices:
    if config.prompt_choice == 'oracle':
      raise ValueError("config.prompt_choice 'oracle' needs "
                       'prompt_pool_param.use_prompt_mask: without it no '
                       'prompts belong to a task')
    if 'oracle_prompt' in config.comparisons:
      raise ValueError('config.comparisons names oracle_prompt, but without '
                       'prompt_pool_param.use_prompt_mask no prompts belong to '
                       'a task')


def build(config: ConfigDict, backbone: vit.VisionTransformer,
          stream: base.StreamInfo) -> base.Method:
  """L2P as `config` describes it."""
  del stream
  return method(config, L2P(**options(config, backbone)))
