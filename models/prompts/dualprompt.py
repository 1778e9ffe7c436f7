# SPDX-License-Identifier: Apache-2.0
"""DualPrompt: G-prompts that all tasks share and E-prompts from a pool.

Wang et al., DualPrompt: Complementary Prompting for Rehearsal-free Continual
Learning, ECCV 2022; options and arithmetic of google-research/l2p.
"""

import dataclasses

import jax
import jax.numpy as jnp

from promptcl.models.networks import vit
from promptcl.models.parts import base
from promptcl.models.parts import pool_options
from promptcl.models.parts import prompt_pool
from promptcl.models.parts import spaces as spaces_lib
from promptcl.models.prompts import l2p

Array = jax.Array
OPTIONS = pool_options.OPTIONS
SMALL = {
    'use_g_prompt': True, 'g_prompt_length': 2, 'g_prompt_layer_idx': (0, 1),
    'e_prompt_layer_idx': (1, 2), 'use_prefix_tune_for_e_prompt': True,
    'prompt_pool_param.pool_size': 3, 'prompt_pool_param.top_k': 1,
    'prompt_pool_param.use_prompt_mask': True,
    'prompt_pool_param.shared_prompt_pool': True}


def _join(first: Array | None, second: Array | None, axis: int):
  """Concatenates what is there."""
  parts = [part for part in (first, second) if part is not None]
  return jnp.concatenate(parts, axis=axis) if parts else None


@dataclasses.dataclass(frozen=True)
class GPrompt:
  """Settings of the shared prompt.

  Attributes:
    layers: which blocks receive it, ascending.
    length: G.
    prefix: prefix on keys and values (True) or tokens.
    same_key_value: one array serves as key part and as value part.
    initializer: name of the start distribution, see `prompt_pool.initializer`.
  """

  layers: tuple[int, ...]
  length: int
  prefix: bool
  same_key_value: bool
  initializer: str = 'uniform'

  def shape(self, width: int) -> tuple[int, ...]:
    kinds = (1 if self.same_key_value else 2,) if self.prefix else ()
    return (len(self.layers), *kinds, self.length, width)


class DualPrompt(l2p.L2P):
  """The E-prompts of `L2P` plus G-prompts; in a shared layer G stands first.

  The original drops G-tokens in layers without E-tokens and still counts them
  in the read-out (`dropped_tokens`); this is matched.

  Attributes:
    g_prompt: settings of the G-prompt.

  Parameters beside the pool: `prefix` [Lg, 2, G, D]; [Lg, 1, G, D] when keys
  and values are shared; [Lg, G, D] as tokens.  Only prompted layers have a row;
  the original also holds rows that nothing reads, which only shows in its L2
  penalty when `weight_decay` is set.
  """

  g_prompt: GPrompt | None = None

  def setup(self):
    super().setup()
    self.prefix = self.param(
        'prefix', prompt_pool.initializer(self.g_prompt.initializer),
        self.g_prompt.shape(self.pool_options['width']))

  @property
  def _g_token_layers(self) -> set[int]:
    return set() if self.g_prompt.prefix else set(self.g_prompt.layers)

  @property
  def dropped_tokens(self) -> int:
    dropped = self._g_token_layers - set(self.token_layers)
    return self.g_prompt.length * len(dropped)

  @property
  def num_tokens(self) -> int:
    entering = self._g_token_layers & set(self.token_layers)
    return super().num_tokens + self.g_prompt.length * len(entering)

  @property
  def spaces(self) -> tuple[base.Space, ...]:
    mine = []
    for i, layer in enumerate(self.g_prompt.layers):
      name, kind, index = (f'layer_{layer}', 'prefix', (i, 0)) if (
          self.g_prompt.prefix) else ('tokens', 'token', (i,))
      mine.append(base.Space(name, kind, (('prompt/prefix', index),), layer))
    return spaces_lib.merged((*mine, *super().spaces))

  def _g_at(self, layer: int, batch: int) -> Array | None:
    """[B, 2, G, H, D // H] as prefix, [B, G, D] as tokens, or None."""
    if layer not in self.g_prompt.layers:
      return None
    prompt = self.prefix[self.g_prompt.layers.index(layer)]
    if self.g_prompt.prefix:
      prompt = jnp.broadcast_to(prompt, (2, *prompt.shape[1:]))
      prompt = base.split_heads(prompt, self.num_heads)
    return jnp.broadcast_to(prompt, (batch, *prompt.shape))

  def at_layer(self, layer, tokens, carry):
    mine, carry = super().at_layer(layer, tokens, carry)
    shared = self._g_at(layer, len(tokens))
    if self.g_prompt.prefix:
      return mine.replace(prefix=_join(shared, mine.prefix, 2)), carry
    if mine.tokens is None:
      return mine, carry
    return vit.LayerPrompt(tokens=_join(shared, mine.tokens, 1)), carry


def build(config, backbone: vit.VisionTransformer, stream: base.StreamInfo
          ) -> base.Method:
  """DualPrompt, or its G-prompt alone when `use_e_prompt` is off."""
  del stream
  start = config.prompt_pool_param.initializer
  # In the original `normal` is of the pool alone.
  g_prompt = GPrompt(
      tuple(sorted(config.g_prompt_layer_idx)), config.g_prompt_length,
      config.use_prefix_tune_for_g_prompt, config.same_key_value_for_shared,
      initializer='uniform' if start == 'normal' else start)
  return l2p.method(
      config, DualPrompt(**l2p.options(config, backbone), g_prompt=g_prompt))
