# SPDX-License-Identifier: Apache-2.0
"""IT-Prompt: one prompt per task, found through sentences about classes.

A plain pass gives an image's embedding; a small residual map brings it near the
key of its class, which began as the class's sentence and stays beside it.  The
nearest key tells the class, the class its task, and the task the prompt: a
prefix in the first blocks of a second pass, whose feature a cosine classifier
reads.  Three phases per task train these parts, see `it_phases.py`.

Jiao, Cao, Wang: Prompt-based Continual Learning for Extending Pretrained CLIP
Models' Knowledge, ACM Multimedia Asia 2024.  Its code never appeared, so this
is a reading of it; docs/it_prompt.md lists every decision.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from promptcl.models.networks import clip
from promptcl.models.networks import similarity as similarity_lib
from promptcl.models.networks import text
from promptcl.models.networks import vit
from promptcl.models.parts import base
from promptcl.models.parts import options as options_lib
from promptcl.models.parts import pool_options
from promptcl.models.parts import prompt_pool
from promptcl.models.prompts.it_prompt import losses as it_losses
from promptcl.models.prompts.it_prompt import phases as it_phases

Array = jax.Array
_VISION_SCALE = 16.0
_TEXT_TOWER = f'backbone/{clip.TEXT}'

# Its prompts are E-prompts as prefixes, which these choose.
OPTIONS = options_lib.Section('it_prompt', {
    'modality': 'image_text',  # or vision: prototypes of classes
    'selector': 'learned',  # or zero_shot: stays as it starts
    'select_rule': 'class',  # the best one's task; or task_sum: that of the
    # largest probability over its classes
    'align': True,  # the classifier on draws of all classes
    'text_guide': 1.0,  # weights of losses
    'codebook': 0.4,
    'commitment': 0.1,
    'anchor': 1.0,
    'selector_batch': 128,  # images a step, and draws beside them
    'selector_epochs': 20,
    'selector_rate': 2.5e-4,  # for 256 rows
    'classifier_rate': 0.02,  # times that of prompts, on images
    'align_draws': 256,  # a step, and of each class an epoch
    'align_epochs': 10,
    'align_rate': 1e-4,  # for 256 rows
}, choices={'modality': ('image_text', 'vision'),
            'selector': ('learned', 'zero_shot'),
            'select_rule': ('class', 'task_sum')},
    positive=('selector_batch', 'selector_epochs', 'align_epochs',
              'align_draws'),
    not_negative=('text_guide', 'codebook', 'commitment', 'anchor',
                  'selector_rate', 'align_rate', 'classifier_rate'),
    check=pool_options.check)
SMALL = {
    'model_name': 'CLIP-testing', 'head': 'cosine',
    'e_prompt_layer_idx': (0, 1),
    'freeze_part': ('encoder', 'embedding', 'cls', '/text', '/scale'),
    'use_prefix_tune_for_e_prompt': True, 'prompt_pool_param.pool_size': 3,
    'prompt_pool_param.top_k': 1, 'prompt_pool_param.use_prompt_mask': True,
    'prompt_pool_param.batchwise_prompt': False, 'eval_classes': 'seen',
    'prompt_pool_param.initializer': 'normal_002',
    'grad_clip_scope': 'trainable'}


class ITPrompt(base.Prompt):
  """Task prompts as prefixes, and the keys that choose among them.

  Attributes:
    num_tasks, num_classes: T and C.
    width: E, of embeddings.
    layers: prompted blocks, ascending; empty for none.
    shape: [P, D] of the keys, and of the values, that a block receives.
    num_heads: of the backbone.
    initializer: of the first task's prompt, see `prompt_pool.initializer`.
    sums_tasks: choose the task whose classes have the largest probability in
      all, not the one that has the nearest key.
    reads_text: whether there is a table of sentence embeddings.

  Parameters: `fc_kernel` [E, E], `fc_bias` [E]; `keys` [C, E]; `prompts`
  [T, L, 2 P, D], first keys, then values; `scale` [], the logarithm of the
  factor of similarities; `text` [C, E], of all classes that there will ever be.
  """

  num_tasks: int
  num_classes: int
  width: int
  layers: tuple[int, ...]
  shape: tuple[int, int]
  num_heads: int
  initializer: str
  sums_tasks: bool = False
  reads_text: bool = True

  query_needs = ('embedding',)
  prompt_per_task = True

  @property
  def choices(self) -> tuple[str, ...]:
    return ('key', 'random', 'oracle') if self.layers else ('key',)

  def setup(self):
    zeros, table = nn.initializers.zeros, (self.num_classes, self.width)
    self.fc_kernel = self.param('fc_kernel', zeros, (self.width, self.width))
    self.fc_bias = self.param('fc_bias', zeros, (self.width,))
    self.keys = self.param('keys', zeros, table)
    self.scale = self.param(
        'scale', nn.initializers.constant(math.log(_VISION_SCALE)), ())
    if self.layers:
      length, width = self.shape
      self.prompts = self.param(
          'prompts', prompt_pool.initializer(self.initializer),
          (self.num_tasks, len(self.layers), 2 * length, width))
    if self.reads_text:
      self.text = self.param('text', zeros, table)

  def task_scores(self, query: base.Query, owner: Array) -> Array:
    """How well an image fits each task: [B, T], 0 or less where no class is.

    Args:
      query: with `embedding`.
      owner: int32 [C], task of each class, -1 for classes still to come.
    """
    q = it_losses.query(query.embedding, self.fc_kernel, self.fc_bias)
    cosine = q @ similarity_lib.l2_normalize(self.keys).T
    belongs = owner == jnp.arange(self.num_tasks)[:, None]
    if self.sums_tasks:
      logits = it_losses.seen(
          jnp.exp(self.scale) * cosine, {'owner': owner})
      return jax.nn.softmax(logits) @ belongs.T.astype(jnp.float32)
    return jnp.max(jnp.where(belongs, cosine[:, None], -jnp.inf), axis=-1)

  def select(self, query, task_index, *, train, vote=None, mask=None,
             choice='key', image_keys=None, memory=None):
    """See `base.Prompt.select`; each image chooses for itself."""
    del vote, mask
    owner = jnp.full(self.num_classes, -1) if memory is None else (
        memory[it_losses.MEMORY]['owner'])
    scores = self.task_scores(query, owner)
    best = jnp.argmax(scores, axis=1)
    if train or choice == 'oracle':
      best = jnp.full_like(best, task_index)
    elif choice == 'random':
      known = jnp.any(owner == jnp.arange(self.num_tasks)[:, None], axis=1)
      best = jax.vmap(lambda key: jax.random.categorical(
          key, jnp.where(known, 0.0, -jnp.inf)))(image_keys)
    best = best.astype(jnp.int32)
    return base.Selection(
        indices=best[:, None], similarity=scores,
        carry=self.prompts[best] if self.layers else None)

  def at_layer(self, layer, tokens, carry):
    if layer not in self.layers:
      return vit.LayerPrompt(), carry
    picked = carry[:, self.layers.index(layer)]  # [B, 2 P, D]
    prefix = picked.reshape(len(picked), 2, *self.shape)
    return vit.LayerPrompt(
        prefix=base.split_heads(prefix, self.num_heads)), carry


def build(config, backbone: vit.VisionTransformer, stream: base.StreamInfo
          ) -> base.Method:
  """IT-Prompt as `config.it_prompt` and the keys of E-prompts describe it.

  Raises:
    ValueError: one line, names the key.
  """
  _check(config, backbone)
  options, pool = config.it_prompt, config.prompt_pool_param
  reads_text = options.modality == 'image_text'
  prompt = ITPrompt(
      num_tasks=pool.pool_size, num_classes=stream.num_classes,
      width=(backbone.joint_width if isinstance(backbone, clip.Clip)
             else backbone.width),
      layers=tuple(sorted(config.e_prompt_layer_idx)) * config.use_e_prompt,
      shape=(pool.length, backbone.width), num_heads=backbone.num_heads,
      initializer=pool.initializer, reads_text=reads_text,
      sums_tasks=options.select_rule == 'task_sum')
  return it_phases.method(
      config, prompt,
      start=_start(config, backbone) if reads_text else _vision_start(config))


def _start(config, backbone: clip.Clip) -> base.Fill:
  """Fills in sentence embeddings and the factor, and drops the text tower."""
  def start(class_names):
    ids = text.class_ids(config, backbone.text_shape, class_names)

    def fill(params):
      kept = {path: leaf for path, leaf in params.items()
              if not path.startswith(_TEXT_TOWER)}
      scale = params[f'backbone/{clip.SCALE}']
      return {**kept, 'prompt/scale': scale, 'head/scale': scale,
              'prompt/text': text.class_embeddings(backbone, params, ids)}

    return fill

  return start


def _vision_start(config) -> base.Fill:
  """The factor of a cosine head starts as that of the keys."""
  def start(class_names):
    del class_names
    if config.head == 'linear':
      return lambda params: params
    return lambda params: {**params, 'head/scale': params['prompt/scale']}

  return start


def _check(config, backbone) -> None:
  """Refuses what the method does not have; see `build`."""
  pool, modality = config.prompt_pool_param, config.it_prompt.modality
  needs = 'method it_prompt needs config.'
  if modality == 'image_text' and not isinstance(backbone, clip.Clip):
    raise ValueError(f'{needs}model_name CLIP-*, or it_prompt.modality vision; '
                     f'{config.model_name} has no text tower')
  if config.task_heads or (modality, config.head) == ('image_text', 'linear'):
    raise ValueError(f'{needs}head cosine or centroids, without task_heads; '
                     'linear goes with it_prompt.modality vision')
  fixed = {'encoder', 'embedding', 'cls'} | (
      {'/text', '/scale'} if modality == 'image_text' else set())
  if config.thaw or not fixed <= set(config.freeze_part):
    raise ValueError(f'{needs}freeze_part with {", ".join(sorted(fixed))}, and '
                     'no thaw: what is remembered is of a backbone that stays')
  if config.replay.review_epochs:
    raise ValueError(f'{needs}replay.review_epochs 0: a review would change '
                     'prompts whose features are remembered')
  if config.rebalance.epochs:
    raise ValueError(f'{needs}rebalance.epochs 0: alignment is its own way to '
                     'balance the head')
  if config.gaussian_schedule or config.continual.scenario != 'class':
    raise ValueError(f"{needs}continual.scenario class without "
                     'gaussian_schedule: each class belongs to one task')
  if pool.batchwise_prompt or config.eval_selection == 'batch':
    raise ValueError(f'{needs}prompt_pool_param.batchwise_prompt False and no '
                     'eval_selection batch: each image chooses for itself')
  if config.use_e_prompt and not (
      config.use_prefix_tune_for_e_prompt and pool.use_prompt_mask
      and pool.top_k == 1 and config.vit_classifier == 'token'):
    raise ValueError(f'{needs}use_prefix_tune_for_e_prompt and '
                     'prompt_pool_param.use_prompt_mask True, top_k 1 and '
                     'vit_classifier token')
