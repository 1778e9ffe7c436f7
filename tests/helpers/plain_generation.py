# SPDX-License-Identifier: Apache-2.0
"""PGT and ConvPrompt once more, image by image, in plain float64 NumPy.

Written from the equations alone, with loops where the models contract: a ViT,
the layer attention, the convolutions, the prefixes and the heads of tasks.
"""

import math
from typing import Any

import numpy as np

Array = np.ndarray
_ENCODER = 'backbone/Transformer'


class Plain:
  """A model with its parameters.

  Attributes:
    params: flat, as the state has them.
    layers: prompted blocks.
    depth, patch: of the backbone.
    tasks: how many have begun.
    slots: anchors of each task.
    sizes: classes of each head.
  """

  def __init__(self, params: Any, *, layers: tuple[int, ...], depth: int,
               patch: int, tasks: int, slots: int, sizes: tuple[int, ...]):
    self.p = {k: np.asarray(v, np.float64) for k, v in params.items()}
    self.layers, self.depth, self.patch = layers, depth, patch
    self.used, self.sizes = tasks * slots, sizes

  def __call__(self, image: Array, naive: Array | None
               ) -> tuple[Array, list[Array]]:
    """Logits [C] of an image and the prefixes [2, P, D] it was given.

    Without the naive tokens [N, D] it is ConvPrompt.
    """
    x, before, prefixes = self.embed(image), 0.0, []
    for layer in range(self.depth):
      prefix = None
      if layer in self.layers:
        place = self.layers.index(layer)
        raw = self.generated(place, x[0])
        prefix = raw + before
        if naive is not None:
          prefix = self.transformed(place, prefix, x, naive)
        before = raw
        prefixes.append(prefix)
      x = self.block(layer, x, prefix)
    return self.heads(self.norm(f'{_ENCODER}/encoder_norm', x, 1e-6)[0]), (
        prefixes)

  def tokens(self, image: Array) -> Array:
    """Final tokens [N, D] without prompts."""
    x = self.embed(image)
    for layer in range(self.depth):
      x = self.block(layer, x, None)
    return self.norm(f'{_ENCODER}/encoder_norm', x, 1e-6)

  def embed(self, image: Array) -> Array:
    p, rows = self.patch, [self.p['backbone/cls'][0, 0]]
    kernel = self.p['backbone/embedding/kernel']
    for top in range(0, image.shape[0], p):
      for left in range(0, image.shape[1], p):
        cut = image[top:top + p, left:left + p]
        rows.append(np.tensordot(cut, kernel, 3)
                    + self.p['backbone/embedding/bias'])
    table = self.p[f'{_ENCODER}/posembed_input/pos_embedding']
    return np.stack(rows) + table[0]

  def block(self, layer: int, x: Array, prefix: Array | None) -> Array:
    name = f'{_ENCODER}/encoderblock_{layer}'
    attention = f'{name}/MultiHeadDotProductAttention_0'
    y, mixed = self.norm(f'{name}/LayerNorm_0', x, 1e-6), 0.0
    for head in range(self.num_heads):
      q, k, v = (y @ self.p[f'{attention}/{part}/kernel'][:, head]
                 + self.p[f'{attention}/{part}/bias'][head]
                 for part in ('query', 'key', 'value'))
      if prefix is not None:
        own = slice(head * q.shape[1], (head + 1) * q.shape[1])
        k = np.concatenate([prefix[0][:, own], k])
        v = np.concatenate([prefix[1][:, own], v])
      mixed = mixed + softmax(q @ k.T / math.sqrt(q.shape[1])) @ v @ self.p[
          f'{attention}/out/kernel'][head]
    x = x + mixed + self.p[f'{attention}/out/bias']
    y = self.norm(f'{name}/LayerNorm_1', x, 1e-6)
    y = y @ self.p[f'{name}/MlpBlock_0/Dense_0/kernel'] + self.p[
        f'{name}/MlpBlock_0/Dense_0/bias']
    y = 0.5 * y * (1 + np.tanh(
        math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))
    return x + y @ self.p[f'{name}/MlpBlock_0/Dense_1/kernel'] + self.p[
        f'{name}/MlpBlock_0/Dense_1/bias']

  @property
  def num_heads(self) -> int:
    return self.p['prompt/shared'].shape[3]

  def norm(self, name: str, x: Array, epsilon: float) -> Array:
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon)
    return x * self.p[f'{name}/scale'] + self.p[f'{name}/bias']

  def affine(self, name: str, place: int, x: Array) -> Array:
    name = f'prompt/attention/{name}'
    return x @ self.p[f'{name}/kernel'][place] + self.p[f'{name}/bias'][place]

  def generated(self, place: int, token: Array) -> Array:
    """R [2, rows, D] of a block for the class token [D] that enters it."""
    u = token
    for name in 'fc1', 'fc2':
      u = u @ self.p[f'prompt/matcher/{name}/kernel'] + self.p[
          f'prompt/matcher/{name}/bias']
      u = np.maximum(u, 0) if name == 'fc1' else u
    planes = self.p['prompt/shared'][place]
    found = []
    for kind in range(2):
      heads = []
      for head in range(self.num_heads):
        total = 0.0
        for slot in range(self.used):
          anchor = self.p['prompt/anchors'][slot]
          cosine = u @ anchor / (np.linalg.norm(u) * np.linalg.norm(anchor))
          index = place, kind, head, slot
          total = total + cosine * (
              correlation(planes[kind, :, head],
                          self.p['prompt/generator/kernel'][index])
              + self.p['prompt/generator/bias'][index])
        heads.append(total)
      found.append(np.concatenate(heads, axis=1))
    return np.stack(found)

  def transformed(self, place: int, generated: Array, x: Array, naive: Array
                  ) -> Array:
    """PGT's prefix [2, P, D] from scales and shifts [2, 2, D]."""
    z = self.norm('prompt/naive_norm', naive, 1e-5)
    hidden = self.affine('fc1', place, z)
    hidden = hidden * 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
    m = self.affine('fc2', place, hidden) + z
    q, k, v = (self.affine(name, place, side) for name, side in (
        ('query', x), ('key', m), ('value', m)))
    d, mixed = q.shape[1] // self.num_heads, []
    for head in range(self.num_heads):
      own = slice(head * d, (head + 1) * d)
      weights = softmax(q[:, own] @ k[:, own].T / math.sqrt(d)) / math.sqrt(d)
      mixed.append(weights @ v[:, own])
    attended = x + self.affine('out', place, np.concatenate(mixed, axis=1))
    prompts = self.p['prompt/token_mix/kernel'][place].T @ self.norm(
        'prompt/prompt_norm', attended, 1e-6)
    prompts = prompts + self.p['prompt/token_mix/bias'][place][:, None]
    unit = lambda x: x / np.linalg.norm(x)
    return np.stack([unit(scale) * prompts + unit(shift)
                     for scale, shift in generated])

  def heads(self, x: Array) -> Array:
    """Logits [C] of the class token [D]."""
    x = x - x.mean()
    x = x / math.sqrt((x * x).mean() + 1e-5)
    logits, first = [], 0
    for task, size in enumerate(self.sizes):
      y = x * self.p['head/scale'][task] + self.p['head/offset'][task]
      columns = slice(first, first + size)
      logits.append(y @ self.p['head/kernel'][:, columns]
                    + self.p['head/bias'][columns])
      first += size
    return np.concatenate(logits)


def softmax(x: Array) -> Array:
  x = np.exp(x - x.max(-1, keepdims=True))
  return x / x.sum(-1, keepdims=True)


def correlation(plane: Array, kernel: Array) -> Array:
  """Valid correlation, number by number."""
  size = kernel.shape[0]
  shape = plane.shape[0] - size + 1, plane.shape[1] - size + 1
  return np.array([[np.sum(plane[i:i + size, j:j + size] * kernel)
                    for j in range(shape[1])] for i in range(shape[0])])
