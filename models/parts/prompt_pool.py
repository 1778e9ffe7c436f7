# SPDX-License-Identifier: Apache-2.0
"""The prompt pool: M prompts with keys, of which each image uses K.

Shared by L2P and by DualPrompt, whose E-prompts are a pool with K = 1.
"""


import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np

from promptcl.models.networks import similarity as similarity_lib
from promptcl.models.parts import base
from promptcl.models.parts import matching

Array = jax.Array
_SMALL = 0.01  # scale of both start distributions of the original


def initializer(name: str) -> nn.initializers.Initializer:
  """Start values by the name that a config gives them.

  The original's are `uniform`, [0, 0.01), `normal`, deviation 0.01, and `zero`;
  its PyTorch ports have `uniform_symmetric`, [-1, 1), CODA-Prompt and
  LibContinual `uniform_unit`, [0, 1).  `normal_002` has deviation 0.02.
  """
  return {
      'uniform': nn.initializers.uniform(_SMALL),
      'normal': nn.initializers.normal(_SMALL),
      'normal_002': nn.initializers.normal(0.02),
      'zero': nn.initializers.zeros,
      'uniform_symmetric': _uniform_symmetric,
      'uniform_unit': nn.initializers.uniform(1.0),
  }[name]


def _uniform_symmetric(rng: Array, shape: tuple[int, ...],
                       dtype: DTypeLike = jnp.float32) -> Array:
  return jax.random.uniform(rng, shape, dtype, minval=-1.0)


def embedding_query(query: base.Query, embedding_key: str) -> Array:
  """The query vector [B, D] that `embedding_key` names.

  `cls` is the plain ViT's class token; `mean`, `max` and `mean_max` (maximum
  plus twice the mean) pool the prompted model's own patch embeddings.
  """
  if embedding_key == 'cls':
    return query.cls
  patches = query.patches.astype(jnp.float32)
  mean, largest = jnp.mean(patches, axis=1), jnp.max(patches, axis=1)
  return {'mean': mean, 'max': largest,
          'mean_max': largest + 2 * mean}[embedding_key]


class PromptPool(nn.Module):
  """Prompts and keys.

  Attributes:
    num_layers: prompted layers n; each has its own row of every prompt.
    pool_size, length, top_k, width: M, P, K, D.
    prefix: prompts are key/value prefixes (two arrays) instead of tokens.
    embedding_key, prompt_key, prompt_key_init, initializer, batchwise_prompt,
    use_prompt_mask, prefix_pairing: as in `config.prompt_pool_param`.

  Parameters: `key` [M, D] (absent without `prompt_key`), `prompt`
  [n, M, P, D] or, as prefix, [n, 2, M, P, D].
  """

  num_layers: int
  pool_size: int
  length: int
  top_k: int
  width: int
  prefix: bool
  embedding_key: str
  prompt_key: bool
  prompt_key_init: str
  initializer: str
  batchwise_prompt: bool
  use_prompt_mask: bool
  prefix_pairing: str = 'correct'

  def setup(self):
    kinds = (2,) if self.prefix else ()
    shape = (self.num_layers, *kinds, self.pool_size, self.length, self.width)
    self.prompt = self.param('prompt', initializer(self.initializer), shape)
    if self.prompt_key:
      self.key = self.param('key', initializer(self.prompt_key_init),
                            (self.pool_size, self.width))

  def keys(self) -> Array:
    """Learned keys, or each prompt's mean over layers and length: [M, D]."""
    if self.prompt_key:
      return self.key
    others = tuple(i for i in range(self.prompt.ndim - 1)
                   if i != self.prompt.ndim - 3)
    return jnp.mean(self.prompt, axis=others)

  def select(self, query: base.Query, task_index: Array, *, train: bool,
             vote: bool, mask: Array | None = None, choice: str = 'key',
             image_keys: Array | None = None) -> base.Selection:
    """See `base.Prompt.select`; `carry` is the gathered prompts.

    Tasks whose own prompts would lie beyond the pool have none: keys decide.
    """
    similarity = similarity_lib.cosine(
        embedding_query(query, self.embedding_key), self.keys())
    indices = matching.best(similarity, self.top_k)
    if vote:
      indices = matching.majority_vote(indices, self.pool_size, mask)
    if choice == 'random':
      indices = matching.random_prompts(image_keys, self.top_k, self.pool_size)
    if choice == 'oracle' or (train and self.use_prompt_mask):
      indices = matching.own_prompts(task_index, indices, self.pool_size)
    return base.Selection(
        indices, similarity, self.gather(indices),
        {'pull': matching.pull_loss(similarity, indices, mask)})

  def gather(self, indices: Array) -> Array:
    """[B, K] -> [n, B, K * P, D], or [n, B, 2, K * P, D] as prefix."""
    picked = jnp.take(self.prompt, indices, axis=-3)  # [n, (2,) B, K, P, D]
    picked = picked.reshape(*picked.shape[:-3], -1, self.width)
    if not self.prefix:
      return picked
    if self.prefix_pairing == 'port':
      # Axes read as what they are not: keys and values of other images.
      n, kinds, batch = picked.shape[:3]
      return picked.reshape(n, batch, kinds, *picked.shape[3:])
    return jnp.moveaxis(picked, 1, 2)


def hand_on(params: dict[str, Array], task_index: int, *, top_k: int,
            names: tuple[str, ...]) -> dict[str, Array]:
  """Starts a task's pool slots as copies of the previous task's.

  Slots (t-1)K ... tK-1 are copied to tK ... (t+1)K-1, in all layers, if those
  exist; the sources stay as they are.

  Args:
    params: flat `{path: host array}`; the pool axis is -3 for prompts and -2
      for keys.
    task_index: t; nothing happens at 0.
    top_k: K.
    names: which of `prompt`, `key` are handed on.

  Returns:
    Params with the same paths and shapes.
  """
  params = dict(params)
  for name in names:
    path, axis = f'prompt/prompt_pool/{name}', {'prompt': -3, 'key': -2}[name]
    array = params.get(path)
    if array is None or task_index == 0 or (
        (task_index + 1) * top_k > array.shape[axis]):
      continue
    tail = (slice(None),) * (-axis - 1)
    source = (..., slice((task_index - 1) * top_k, task_index * top_k), *tail)
    target = (..., slice(task_index * top_k, (task_index + 1) * top_k), *tail)
    params[path] = np.array(array)
    params[path][target] = array[source]
  return params
