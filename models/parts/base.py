# SPDX-License-Identifier: Apache-2.0
"""The seam between methods and everything else: `Prompt` and `Method`.

A method file `models/prompts/NAME.py` offers `build(config, backbone, stream)`,
which returns a `Method` around a `Prompt`; `stream` is a `StreamInfo`.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any, ClassVar

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp

from promptcl.models.networks import vit
from promptcl.models.networks.encoder import Carry
from promptcl.models.parts.method import as_drawn
from promptcl.models.parts.method import Fill
from promptcl.models.parts.method import HeatMap
from promptcl.models.parts.method import joined
from promptcl.models.parts.method import LossContext
from promptcl.models.parts.method import Method
from promptcl.models.parts.method import no_losses
from promptcl.models.parts.method import Overlays
from promptcl.models.parts.method import Start
from promptcl.models.parts.phases import Hook
from promptcl.models.parts.phases import keep_state
from promptcl.models.parts.phases import Learning
from promptcl.models.parts.phases import no_phases
from promptcl.models.parts.phases import one_phase
from promptcl.models.parts.phases import Phase
from promptcl.models.parts.phases import PLAIN
from promptcl.models.parts.phases import Rate
from promptcl.models.parts.phases import RowContext
from promptcl.models.parts.phases import RowLoss
from promptcl.models.parts.spaces import Space

__all__ = ('PLAIN', 'Fill', 'HeatMap', 'Hook', 'Learning', 'LossContext',
           'Method', 'Overlays', 'Phase', 'Prompt', 'Query', 'Rate',
           'RowContext', 'RowLoss', 'Selection', 'Space', 'Start',
           'StreamInfo', 'as_drawn', 'joined', 'keep_state', 'no_losses',
           'no_phases', 'one_phase')
Array = jax.Array


@dataclasses.dataclass(frozen=True)
class StreamInfo:
  """What a method may know of the task stream as it is built.

  Attributes:
    num_classes: C, columns of the head.
    num_tasks: T.
    class_names: by column; () where the program will not be started.
  """

  num_classes: int
  num_tasks: int
  class_names: tuple[str, ...] = ()


@flax.struct.dataclass
class Query:
  """What prompts are chosen by; a field nobody asked for stays None.

  Attributes:
    cls: [B, D] class token of the plain pretrained ViT; carries no gradient.
    tokens: [B, 1 + N, D] all its final tokens, without gradient.
    embedding: [B, E] the class token as a head sees it (`backbone.project`):
      in the joint space of a backbone with a text tower; without gradient.
    patches: [B, N, D] patch embeddings of the prompted model, before class
      token and positions; these do carry a gradient.
  """

  cls: Array | None = None
  tokens: Array | None = None
  embedding: Array | None = None
  patches: Array | None = None


@flax.struct.dataclass
class Selection:
  """Result of `Prompt.select`, once per image.

  Attributes:
    indices: [B, K] int32 prompts used, in order of use, or None.
    similarity: [B, M] cosine of query and keys, or what else keys are weighed
      by, or None.
    carry: whatever `Prompt.at_layer` wants at block 0.
    losses: named scalars to be minimised; the method's `loss_weights` weigh
      them.
  """

  indices: Array | None = None
  similarity: Array | None = None
  carry: Carry = None
  losses: Mapping[str, Array] = dataclasses.field(default_factory=dict)


def split_heads(prefix: Array, num_heads: int) -> Array:
  """[..., D] -> [..., H, D // H]."""
  return prefix.reshape(*prefix.shape[:-1], num_heads, -1)


class Prompt(nn.Module):
  """Base of all prompts, and the prompt of a run without any.

  What it can do is told by attributes; `fit.check` refuses runs that ask for
  more.

  Class attributes:
    query_needs: fields of `Query` that the query pass must deliver; empty
      means there is no query pass at all.
    needs_task_borders: whether a stream without tasks makes no sense for it.
  """

  query_needs: ClassVar[tuple[str, ...]] = ()
  needs_task_borders: ClassVar[bool] = False

  @property
  def choices(self) -> tuple[str, ...]:
    """What `choice` its `select` knows: `key`, `random`, `oracle`."""
    return ('key',)

  @property
  def has_tokens(self) -> bool:
    """Whether some of its prompts are tokens, which the read-out may read."""
    return False

  @property
  def dropped_tokens(self) -> int:
    """Prompt tokens that the read-out counts though they never enter."""
    return 0

  @property
  def num_positions(self) -> int:
    """Prompt tokens that have a position; 0: they stand in front without."""
    return 0

  @property
  def has_pool(self) -> bool:
    """Whether prompts are chosen, so that a batch can vote on them."""
    return False

  @property
  def votes(self) -> bool:
    """Whether all images of a device's batch share the voted prompts."""
    return False

  @property
  def prompt_per_task(self) -> bool:
    """Whether prompt t is that of task t, and images choose one each."""
    return False

  @property
  def order_matters(self) -> bool:
    """Whether the same prompts in another order give other logits."""
    return False

  @property
  def spaces(self) -> tuple[Space, ...]:
    """Inputs that its parameters meet, as far as they may be protected."""
    return ()

  def match_vector(self, query: Query) -> Array | None:
    """Vectors [B, D] that its keys are compared with; None without keys."""
    del query
    return None

  def select(self, query: Query, task_index: Array, *, train: bool,
             vote: bool | None = None, mask: Array | None = None,
             choice: str = 'key', image_keys: Array | None = None,
             memory: Any = None) -> Selection:
    """Chooses prompts for a batch.

    Args:
      query: what the query pass delivered.
      task_index: [] int32, traced; the task that trains, -1 at test time. For
        the choice `oracle` the task of the images at test time.
      train: static.
      vote: overrides `votes`; None keeps it.
      mask: [B] float, 0 for padding, which must not vote.
      choice: `key`; `random`, a draw for each image; `oracle`, the prompts of
        the task that is given.  All images of a batch may differ.
      image_keys: [B] random keys, one per image, for the choice `random` and
        for whatever is random in training; None: nothing is.
      memory: `TrainState.memory`; None before there is any.
    """
    del query, task_index, train, vote, mask, choice, image_keys, memory
    return Selection()

  def at_layer(self, layer: int, tokens: Array, carry: Carry
               ) -> tuple[vit.LayerPrompt, Carry]:
    """What block `layer` receives, given its live tokens [B, T, D]."""
    del layer, tokens
    return vit.LayerPrompt(), carry

  def pool(self, outputs: Array) -> Array:
    """Prompt outputs [B, A, D] -> [B, D] for the read-out `prompt`."""
    return jnp.mean(outputs, axis=1)
