# SPDX-License-Identifier: Apache-2.0
"""Backbone + prompt + head: query pass, prompted pass, read-out."""

import dataclasses

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp

from promptcl.models import prompts
from promptcl.models.heads import heads
from promptcl.models.heads import sentence_head
from promptcl.models.networks import vit
from promptcl.models.parts import base
from promptcl.models.parts import fit

Array = jax.Array
READOUTS = ('token', 'gap', 'prompt', 'token+prompt', 'query')


@flax.struct.dataclass
class Output:
  """Result of the prompted pass.

  Attributes:
    logits: [B, C] float32, no class masked.
    pre_logits: [B, E] what goes into the head, before any normalisation; E is
      D except in the joint space of a backbone with a text tower.
    selection: which prompts were used, and their losses.
  """

  logits: Array
  pre_logits: Array
  selection: base.Selection


class PromptedClassifier(nn.Module):
  """A ViT that classifies with prompts.

  Attributes:
    backbone, prompt, head: the three parts; their parameters stand under these
      names.
    readout: `token` (class token), `gap` (mean of all tokens, prompts and
      class token included), `prompt` (mean prompt output), `token+prompt` or
      `query` (class token of the query pass, so that there is no second one).
  """

  backbone: vit.VisionTransformer
  prompt: nn.Module
  head: nn.Module
  readout: str

  def query(self, images: Array) -> base.Query:
    """The query pass: the plain backbone, only as far as the prompt needs it.

    Apply it with the pristine pretrained tree.
    """
    needs = self.prompt.query_needs
    read = vit.read_all if 'tokens' in needs else vit.read_class_token
    tokens = self.backbone(images, read=read).tokens.astype(jnp.float32)
    found = {'cls': tokens[:, 0], 'tokens': tokens}
    if 'embedding' in needs:
      found['embedding'] = self._project(tokens[:, 0])
    return jax.lax.stop_gradient(
        base.Query(**{name: found[name] for name in needs}))

  def class_token(self, images: Array) -> Array:
    """Class token [B, D] of the plain backbone, for probes and class means."""
    return self.backbone(images, read=vit.read_class_token).tokens[:, 0]

  def select(self, images: Array, query: base.Query, task_index: Array, *,
             train: bool, **options) -> tuple[Array, base.Selection]:
    """Patch embeddings [B, N, D] and the prompts chosen for them.

    `options` are those of `models.parts.base.Prompt.select`.
    """
    patches = self.backbone.embed(images)
    selection = self.prompt.select(
        query.replace(patches=patches), task_index, train=train, **options)
    return patches, selection

  def __call__(self, images: Array, query: base.Query, task_index: Array, *,
               train: bool, classes: Array | None = None,
               class_vectors: Array | None = None, **options) -> Output:
    """The prompted pass.

    Args:
      images: [B, s, s, 3] float32 in the range the config names.
      query: of the same images, from `query`.
      task_index: [] int32, the task that trains, -1 at test time.
      train: static.
      classes: [C] or [B, C] bool, whose logits are wanted; others may have any
        finite value.  None for all.
      class_vectors: what `class_vectors` returned for the same parameters; None
        to compute it here.
      **options: how prompts are chosen: `vote`, `mask`, `choice`, `image_keys`
        and `memory` of `models.parts.base.Prompt.select`.
    """
    patches, selection = self.select(
        images, query, task_index, train=train, **options)
    if self.readout == 'query' and not self.is_initializing():
      pre_logits = query.embedding
    else:
      features = self.backbone.encode(
          patches, prompt_at=self.prompt.at_layer, carry=selection.carry,
          read=self._rows, train=train)
      pre_logits = self._project(
          self._pool(features.tokens.astype(jnp.float32)))
    if not self.reads_sentences:
      return Output(self.head(pre_logits), pre_logits, selection)
    if class_vectors is None:
      class_vectors = self.class_vectors(classes)
    logits = self.head(pre_logits, class_vectors)
    return Output(logits, pre_logits, selection)

  @property
  def reads_sentences(self) -> bool:
    """Whether the head compares with `class_vectors`."""
    return isinstance(self.head, sentence_head.SentenceHead)

  def class_vectors(self, classes: Array | None = None) -> Array:
    """Directions of classes by the text tower, times the factor of logits.

    Args:
      classes: see `__call__`.

    Returns:
      [C, E] float32; alike for all images, for heads that read sentences.
    """
    vectors = self.head.vectors(self.backbone.text_reader(), classes)
    return jnp.exp(self.backbone.embedding_scale) * vectors

  def _project(self, tokens: Array) -> Array:
    """Class tokens or their like [B, D] -> [B, E] float32."""
    return self.backbone.project(tokens).astype(jnp.float32)

  def _rows(self, layout: vit.Layout) -> slice:
    """Rows of the encoder's output that the read-out looks at."""
    counted = dataclasses.replace(
        layout, num_prompts=layout.num_prompts + self.prompt.dropped_tokens)
    class_token = vit.read_class_token(counted)
    return {'token': class_token, 'query': class_token, 'gap': slice(None),
            'prompt': counted.prompts,
            'token+prompt': counted.prompts_and_class}[self.readout]

  def _pool(self, tokens: Array) -> Array:
    if self.readout == 'prompt':
      return self.prompt.pool(tokens)
    return jnp.mean(tokens, axis=1)


def build(config, stream: base.StreamInfo, backbone: vit.VisionTransformer
          ) -> tuple[PromptedClassifier, base.Method]:
  """The classifier of `config` over a stream's classes, and its method."""
  method = prompts.build(config, backbone, stream)
  backbone = backbone.clone(num_positions=method.prompt.num_positions)
  fit.check(config, method.prompt)
  head = heads.create(
      config, stream.num_classes, backbone, stream.class_names)
  model = PromptedClassifier(
      backbone, method.prompt, head, config.vit_classifier)
  return model, method.with_part(rates=head.rates())
