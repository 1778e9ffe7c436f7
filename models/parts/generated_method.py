# SPDX-License-Identifier: Apache-2.0
"""What methods with generated prompts do around a step.

As a task begins, its anchors are drawn, and the shared embedding is remembered
and then kept near (sum of absolute differences).  A task trains its own slots;
what exactly rests is told by `Method.rates`.
"""

from collections.abc import Sequence
import re
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from promptcl.models.networks import vit
from promptcl.models.parts import base
from promptcl.models.parts import fit
from promptcl.models.parts import generation
from promptcl.models.parts import options as options_lib
from promptcl.models.parts import slots as slots_lib

_MEMORY = generation.MEMORY
_ANCHORS = 'prompt/anchors'

OPTIONS = options_lib.Section('generation', {
    'layers': (),  # prompted blocks; (): all but the last
    'length': 20,  # prompt tokens
    'kernel': 17,  # side of the convolutions
    'anchors': 4,  # and convolutions, that each task adds
    'anchors_by_task': (),  # one number per task instead
    'anchor_query': 'block',  # whose class token anchors are compared with:
    # block, or naive (of the plain backbone; where it is asked)
    'match_width': 0,  # of anchors; 0: a quarter of the model's
    'train_anchors': False,  # those of the task
    'drift_weight': 0.01,  # of the distance that the embedding moves in a task
    'token_mix_init': 'zeros',  # or normal (deviation 0.02)
    'attention_dropout': 0.2,
    'post_softmax_scale': True,  # layer attention is scaled twice
    'remat': False,  # layer attention anew in the backward pass
    'freeze_generation_after_first': False,  # task
}, choices={'anchor_query': ('block', 'naive'),
            'token_mix_init': ('zeros', 'normal')},
    positive=('length', 'kernel'),
    not_negative=('anchors', 'drift_weight', 'match_width'),
    shares=('attention_dropout',),
    items={'layers': int, 'anchors_by_task': int})

_NORMS = r'backbone/.*(LayerNorm_\d|encoder_norm)/.*'
SMALL = {
    'generation.anchors': 1, 'generation.length': 3, 'generation.kernel': 3,
    'use_e_prompt': False, 'task_heads': True, 'head_init': 'trunc_normal',
    'eval_classes': 'seen', 'grad_clip_scope': 'trainable', 'thaw': (_NORMS,),
    'later_rate_multipliers': ((_NORMS, 0.005),),
    'learning_rate_schedule': 'cosine_by_epoch'}


def options(config: ConfigDict, backbone: vit.VisionTransformer,
            stream: base.StreamInfo) -> dict[str, Any]:
  """Keyword arguments of `generation.Generated` but `rows`.

  Raises:
    ValueError: blocks or slots that cannot be.
  """
  layers = tuple(sorted(config.generation.layers)) or tuple(
      range(backbone.depth - 1))
  fit.check_layers(config, 'generation.layers', layers, backbone.depth)
  match_width = config.generation.match_width or backbone.width // 4
  return dict(layers=layers, num_heads=backbone.num_heads,
              width=backbone.width, match_width=match_width,
              kernel_size=config.generation.kernel,
              slots=_slots(config, stream.num_tasks, match_width))


def _slots(config: ConfigDict, num_tasks: int, most: int) -> slots_lib.Slots:
  """As many slots as the config gives each task.

  Raises:
    ValueError: not one number per task, or more than `most` in all.
  """
  counts = tuple(config.generation.anchors_by_task) or (
      config.generation.anchors,) * num_tasks
  if len(counts) != num_tasks or min(counts) < 0:
    raise ValueError(f'config.generation.anchors_by_task {counts} must have a '
                     f'number for each of {num_tasks} tasks')
  if not 0 < sum(counts) <= most:
    raise ValueError(f'config.generation.anchors: {sum(counts)} anchors cannot '
                     f'be orthogonal in {most} dimensions; lower it or raise '
                     'generation.match_width')
  return slots_lib.Slots(counts)


def method(config: ConfigDict, prompt: generation.Generated, *,
           first_only: Sequence[str], held: Sequence[str]) -> base.Method:
  """The method around a prompt.

  Memory `generation`: `tasks` [] int32, how many have begun; `start`, the
  leaves of `held` as they were when the last one began.

  Args:
    config: expanded.
    prompt: of the method.
    first_only: parts of the prompt that train in the first task alone.
    held: parts that are kept from moving.
  """
  is_held = re.compile(rf'prompt/({"|".join(held)})(/.*)?').fullmatch
  some = lambda params: {k: v for k, v in params.items() if is_held(k)}

  def memory(params):
    return {_MEMORY: {'tasks': jnp.int32(0),
                      'start': jax.tree.map(jnp.copy, some(params))}}

  def begin_task(state, task_index, probe):
    del probe
    anchors = filled(state.params[_ANCHORS], prompt.slots, task_index,
                     seed=config.seed)
    return state.replace(
        params={**state.params, _ANCHORS: anchors},
        memory={**state.memory, _MEMORY: {
            'tasks': np.int32(task_index + 1), 'start': some(state.params)}})

  def losses(context):
    start = context.memory[_MEMORY]['start']
    moved = sum(jnp.sum(jnp.abs(context.params[path] - leaf))
                for path, leaf in start.items())
    return {'drift': jnp.where(context.task.index > 0, moved, 0.0)}

  return base.Method(
      prompt, {'drift': config.generation.drift_weight}, memory=memory,
      begin_task=begin_task, extra_losses=losses, pictures=similarities,
      rates=_rates(config, prompt.slots, first_only))


def similarities(shown: Any) -> dict[str, base.HeatMap]:
  """How images of each set resemble each anchor, mean over blocks."""
  rows = [100 * np.mean(found[generation.SIMILARITY], axis=(0, 1))
          for found in shown.values()]
  return {'anchor_similarity': base.HeatMap(
      np.stack(rows), 'Cosine x 100 with anchors', 'evaluation set', 'anchor')}


def _rates(config: ConfigDict, slots: slots_lib.Slots, first_only: Sequence[str]
           ) -> tuple[base.Rate, ...]:
  """What rests in which task."""
  own = lambda task: jnp.asarray(slots.owner) == task.index
  trains = config.generation.train_anchors
  rates = [
      (_ANCHORS, lambda task: own(task)[:, None] & trains),
      ('prompt/generator/kernel', lambda task: own(task)[:, None, None]),
      ('prompt/generator/bias', own)]
  if first_only:
    rates.append((rf'prompt/({"|".join(first_only)})/.*',
                  lambda task: task.index == 0))
  return tuple(rates)


def filled(anchors: Any, slots: slots_lib.Slots, task_index: int, *, seed: int
           ) -> np.ndarray:
  """The anchors [G, m] with those of a task drawn anew, from seed and task."""
  anchors, span = np.array(anchors), slots.span(task_index)
  rng = np.random.default_rng([seed, task_index])
  anchors[span] = slots_lib.orthonormal(
      rng, anchors[:span.start], span.stop - span.start)
  return anchors
