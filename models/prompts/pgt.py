# SPDX-License-Identifier: Apache-2.0
"""PGT: prompts generated for each image and transformed for each task.

Before a block its tokens ask the plain backbone's final tokens (layer
attention); a linear map over tokens makes P instance prompts of the answer.
What the anchors generate, a scale and a shift of unit length for keys and for
values each, transforms them into the block's prefix.

After the code of github.com/Yong-DAI/PGC, which is incomplete; docs/pgt.md
lists what was decided where it leaves a choice.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from promptcl.models.networks import vit
from promptcl.models.parts import base
from promptcl.models.parts import generated_method
from promptcl.models.parts import generation
from promptcl.models.parts import layer_attention

Array = jax.Array
OPTIONS = generated_method.OPTIONS
SMALL = {**generated_method.SMALL, 'later_rate_multipliers': (
    *generated_method.SMALL['later_rate_multipliers'],
    ('prompt/naive_norm/.*', 0.005))}
ASKED = 'asked'  # what is sown, [B, N] for each prompted block
TOKEN_MIX_INITS = {
    'zeros': nn.initializers.zeros, 'normal': nn.initializers.normal(0.02)}


def unit(x: Array) -> Array:
  """x over its length in the last axis, which has no gradient."""
  length = jnp.linalg.norm(x, axis=-1, keepdims=True)
  return x / jax.lax.stop_gradient(jnp.maximum(length, 1e-12))


def asked(weights: Array, kernel: Array) -> Array:
  """Share of each token asked in an image's prompts: [B, N], sums to 1.

  Args:
    weights: [B, H, T, N] of the layer attention.
    kernel: [T, P] that mixes its answers.
  """
  share = jnp.sum(jnp.abs(kernel), axis=1) + 1e-12  # all equal at the start
  return jnp.einsum('bhtn,t->bn', weights.astype(jnp.float32),
                    share / (weights.shape[1] * jnp.sum(share)))


class PGT(generation.Generated):
  """Instance prompts under task-wise affine parameters.

  Attributes:
    num_tokens: N, of the backbone, class token included.
    length: P, prompt tokens.
    token_mix_init: key of `TOKEN_MIX_INITS`; `zeros` keeps all P tokens of a
      prefix equal for ever, as in the authors' code.
    naive_query: compare the plain backbone's class token with anchors, not the
      block's.
    dropout_rate, rescale, remat: see `layer_attention.LayerAttention`.

  Parameters beside those of `Generated`: `naive_norm`, `attention`,
  `prompt_norm`, and `token_mix` [L, N, P] with bias [L, P].
  """

  num_tokens: int = 0
  length: int = 20
  token_mix_init: str = 'zeros'
  naive_query: bool = False
  dropout_rate: float = 0.2
  rescale: bool = True
  remat: bool = False

  query_needs = ('tokens',)

  def setup(self):
    super().setup()
    self.naive_norm = nn.LayerNorm(epsilon=1e-5)
    self.attention = layer_attention.LayerAttention(
        len(self.layers), self.width, self.num_heads, self.dropout_rate,
        self.rescale, self.remat)
    self.prompt_norm = nn.LayerNorm(epsilon=1e-6)
    self.token_mix = layer_attention.StackedDense(
        (len(self.layers), self.num_tokens, self.length),
        TOKEN_MIX_INITS[self.token_mix_init], nn.initializers.zeros)

  def select(self, query, task_index, **options):
    selection = super().select(query, task_index, **options)
    return selection.replace(carry=selection.carry.replace(
        source=self.naive_norm(query.tokens),
        query=query.tokens[:, 0] if self.naive_query else None))

  def instance_prompts(self, place: int, tokens: Array, carry: generation.Carry
                       ) -> Array:
    """Prompts made of an image alone: [B, P, D] float32."""
    keys = carry.keys
    if keys is not None:
      keys = jax.vmap(lambda key: jax.random.fold_in(key, place))(keys)
    attended, weights = self.attention(
        place, tokens, carry.source.astype(tokens.dtype), keys)
    kernel, bias = self.token_mix(place)
    if self.is_mutable_collection('intermediates'):
      self.sow('intermediates', ASKED, asked(weights, kernel))
    return jnp.einsum('bnd,np->bpd', self.prompt_norm(attended), kernel) + (
        bias[:, None])

  def prefix(self, place, generated, tokens, carry):
    prompts = self.instance_prompts(place, tokens, carry)
    batch, kinds, rows = generated.shape[:3]
    scale, shift = jnp.moveaxis(
        unit(generated.reshape(batch, kinds, rows, -1)), 2, 0)
    prefix = scale[:, :, None] * prompts[:, None] + shift[:, :, None]
    return prefix.reshape(*prefix.shape[:-1], self.num_heads, -1)


def build(config, backbone: vit.VisionTransformer, stream: base.StreamInfo
          ) -> base.Method:
  """PGT as `config.generation` describes it."""
  options = config.generation
  side = backbone.image_size // backbone.patch_size
  prompt = PGT(
      **generated_method.options(config, backbone, stream), rows=2,
      num_tokens=1 + side * side, length=options.length,
      token_mix_init=options.token_mix_init,
      naive_query=options.anchor_query == 'naive',
      dropout_rate=options.attention_dropout,
      rescale=options.post_softmax_scale, remat=options.remat)
  first_only = ['matcher', 'token_mix']
  if options.freeze_generation_after_first:
    first_only += ['attention', 'naive_norm', 'prompt_norm']
  method = generated_method.method(config, prompt, first_only=first_only,
                                   held=('shared',))
  return method.with_part(
      pictures=lambda shown: attention_maps(shown, prompt.layers))


def attention_maps(shown, layers: tuple[int, ...]) -> dict[str, base.Overlays]:
  """Where the prompts look, in an image of each set and some of the blocks."""
  places = sorted({0, len(layers) // 2, len(layers) - 1})
  maps = [[found[ASKED][place][0, 1:] for place in places]
          for found in shown.values()]
  return {'prompt_attention': base.Overlays(
      images=np.stack([found['image'][0] for found in shown.values()]),
      maps=np.asarray(maps), title='What prompts are made of',
      columns=tuple(f'block {layers[place]}' for place in places))}
