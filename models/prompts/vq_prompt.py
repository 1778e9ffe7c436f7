# SPDX-License-Identifier: Apache-2.0
"""VQ-Prompt: a mixture of prompts, replaced by its nearest element of the pool.

In each prompted block the query weighs N keys, the weights mix the block's N
prompts, and the element of the pool nearest to the mixture is the prefix; its
gradient goes to the mixture (straight through).  Two squared distances pull the
mixture to the element and the element to the mixture.

Jiao et al., Vector Quantization Prompting for Continual Learning, NeurIPS 2024;
arithmetic of the authors' code, docs/vq_prompt.md.  Its second stage is in
`train_lib/around/rebalancing.py`.
"""


import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from promptcl.models.networks import vit
from promptcl.models.parts import base
from promptcl.models.parts import fit
from promptcl.models.parts import options

Array = jax.Array
_USUAL_LAYERS = 5


def check(config: ConfigDict) -> None:
  """Refuses prompts that cannot be shared out.

  Raises:
    ValueError: the length is odd.
  """
  if config.vq.length % 2:
    raise ValueError(f'config.vq.length {config.vq.length} must be even: half '
                     'of it goes to keys, half to values')


OPTIONS = options.Section('vq', {
    'layers': (),  # prompted blocks; (): the first five
    'pool_size': 10,  # prompts and keys of each block
    'length': 8,  # tokens; half of them for keys, half for values
    'temperature': 1.0,  # of the softmax over keys
    'normalize_query': False,  # keys always are
    'quantize': True,  # else the mixture is the prompt
    'commitment_weight': 0.4,  # of the distance that moves the mixture
    'codebook_weight': 0.1,  # of the one that moves the pool's element
}, positive=('pool_size', 'length', 'temperature'),
    not_negative=('commitment_weight', 'codebook_weight'),
    items={'layers': int}, check=check)
SMALL = {
    'use_e_prompt': False, 'vq.layers': (0, 1), 'vq.pool_size': 4,
    'vq.length': 4, 'optim': 'adamw', 'grad_clip_scope': 'trainable',
    'eval_classes': 'seen', 'learning_rate_schedule': 'freeze_cosine',
    'freeze_cosine.freeze_steps': 1, 'rebalance.epochs': 2,
    'learning_rate_multipliers': (('prompt/.*', 5.0),),
    'rebalance.batch_ratio': 2, 'rebalance.learning_rate': 0.02}


def key_weights(query: Array, keys: Array, temperature: float) -> Array:
  """Softmax of the query along each key's direction.

  Args:
    query: [B, D], of any length, which makes the softmax sharper.
    keys: [L, N, D].
    temperature: of the softmax.

  Returns:
    [L, B, N].
  """
  length = jnp.linalg.norm(keys, axis=-1, keepdims=True)
  directions = keys / jnp.maximum(length, 1e-12)
  scores = jnp.einsum('bd,lnd->lbn', query, directions, precision='highest')
  return jax.nn.softmax(scores / temperature, axis=-1)


def nearest(mixed: Array, pool: Array) -> Array:
  """Element of the pool with the least squared distance; the first of equals.

  Args:
    mixed: [L, B, P, D].
    pool: [L, N, P, D].

  Returns:
    [L, B] int32.
  """
  distance = jnp.sum(
      jnp.square(mixed[:, :, None] - pool[:, None]), axis=(-2, -1))
  return jnp.argmin(distance, axis=-1).astype(jnp.int32)


def straight_through(value: Array, source: Array) -> Array:
  """Exactly `value`, whose gradient goes to `source`."""
  return jax.lax.stop_gradient(value) + (source - jax.lax.stop_gradient(source))


def distances(mixed: Array, chosen: Array, mask: Array | None
              ) -> dict[str, Array]:
  """The two penalties: means over images and numbers, summed over blocks.

  Args:
    mixed, chosen: [L, B, P, D].
    mask: [B], 0 for images that do not count.

  Returns:
    commitment: moves the mixture alone; codebook: moves the element alone.
  """
  def mean(difference):
    each = jnp.mean(jnp.square(difference), axis=(-2, -1))
    if mask is None:
      return jnp.sum(jnp.mean(each, axis=1))
    return jnp.sum(each * mask) / jnp.maximum(jnp.sum(mask), 1.0)

  fixed = jax.lax.stop_gradient
  return {'commitment': mean(mixed - fixed(chosen)),
          'codebook': mean(chosen - fixed(mixed))}


class VQPrompt(base.Prompt):
  """Prefixes from a pool of each prompted block.

  Attributes:
    layers: prompted blocks, ascending; L of them.
    num_heads, width: of the backbone, H and D.
    pool_size: N, prompts and keys of each block.
    length: P, of which the first half goes to keys, the other to values.
    temperature: of the softmax over keys.
    normalize_query: divide the query by its length.
    quantize: else the mixture itself is the prompt, without penalties.

  Parameters: `keys` [L, N, D] and `pool` [L, N, P, D], both of [0, 1) at the
  start.
  """

  layers: tuple[int, ...]
  num_heads: int
  width: int
  pool_size: int = 10
  length: int = 8
  temperature: float = 1.0
  normalize_query: bool = False
  quantize: bool = True

  query_needs = ('cls',)

  def setup(self):
    uniform, shape = nn.initializers.uniform(1.0), (
        len(self.layers), self.pool_size)
    self.keys = self.param('keys', uniform, (*shape, self.width))
    self.pool_of_layers = self.param(
        'pool', uniform, (*shape, self.length, self.width))

  def select(self, query, task_index, *, train, mask=None, **options):
    """See `base.Prompt.select`; block l's element k counts as prompt l N + k.

    `similarity` holds the softmax weights [B, L N], `carry` the prompts
    [L, B, P, D].
    """
    del task_index, train, options
    vector = jax.lax.stop_gradient(query.cls)
    if self.normalize_query:
      length = jnp.linalg.norm(vector, axis=-1, keepdims=True)
      vector = vector / jnp.maximum(length, 1e-12)
    pool = self.pool_of_layers
    weights = key_weights(vector, self.keys, self.temperature)
    mixed = jnp.einsum('lbn,lnpd->lbpd', weights, pool, precision='highest')
    if not self.quantize:
      return base.Selection(carry=mixed)
    indices = nearest(mixed, pool)
    chosen = jnp.take_along_axis(pool, indices[..., None, None], axis=1)
    first = self.pool_size * jnp.arange(len(self.layers), dtype=jnp.int32)
    return base.Selection(
        (indices + first[:, None]).T,
        jnp.moveaxis(weights, 0, 1).reshape(len(vector), -1),
        straight_through(chosen, mixed), distances(mixed, chosen, mask))

  def at_layer(self, layer, tokens, carry):
    if layer not in self.layers:
      return vit.LayerPrompt(), carry
    prompt = carry[self.layers.index(layer)]
    halves = prompt.reshape(len(prompt), 2, -1, self.width)
    prefix = base.split_heads(halves, self.num_heads)
    return vit.LayerPrompt(prefix=prefix), carry


def build(config: ConfigDict, backbone: vit.VisionTransformer,
          stream: base.StreamInfo) -> base.Method:
  """VQ-Prompt as `config.vq` describes it.

  Raises:
    ValueError: settings that do not go together.
  """
  del stream
  vq = config.vq
  layers = tuple(sorted(vq.layers)) or tuple(
      range(min(_USUAL_LAYERS, backbone.depth)))
  fit.check_layers(config, 'vq.layers', layers, backbone.depth)
  prompt = VQPrompt(
      layers=layers, num_heads=backbone.num_heads, width=backbone.width,
      pool_size=vq.pool_size, length=vq.length,
      temperature=vq.temperature, normalize_query=vq.normalize_query,
      quantize=vq.quantize)
  return base.Method(prompt, {'commitment': vq.commitment_weight,
                              'codebook': vq.codebook_weight})
