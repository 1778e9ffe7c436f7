# SPDX-License-Identifier: Apache-2.0
"""The three phases of a task in IT-Prompt, and what happens before each.

  selector    keys and residual map, on cached embeddings of the task's images
              and draws of earlier classes
  prompt      the task's prompt and its classes' part of the classifier, on
              images
  alignment   the whole classifier, on draws of features of all classes
"""

from collections.abc import Mapping
import functools
from typing import Any, TYPE_CHECKING

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from promptcl.models.heads import heads
from promptcl.models.parts import base
from promptcl.models.parts import class_statistics
from promptcl.models.prompts.it_prompt import losses as it_losses
from promptcl.models.prompts.it_prompt import rows as it_rows
from promptcl.models.prompts.it_prompt.losses import MEMORY

if TYPE_CHECKING:
  from promptcl.input_pipeline.pipeline import TaskStream
  from promptcl.input_pipeline.streams.task_stream import Task
  from promptcl.train_lib.core.state import TrainState
  from promptcl.train_lib.probe import Probe

_CENTROIDS = 'head/centroids'
_LEAST_RATE = 1e-6  # where the schedules on vectors end


def method(config: ConfigDict, prompt: base.Prompt, *, start: base.Start
           ) -> base.Method:
  """The method around an `it_prompt.ITPrompt`."""
  options, guide = config.it_prompt, config.it_prompt.text_guide
  return base.Method(
      prompt, {'text_guide': guide}, start=start,
      memory=functools.partial(_memory, prompt),
      extra_losses=it_losses.text_guide if guide else base.no_losses,
      phases=functools.partial(_phases, config, prompt),
      learning=_learning(config, prompt, options),
      check=functools.partial(check, prompt))


def check(prompt: base.Prompt, stream: 'TaskStream',
          shapes: Mapping[str, jax.ShapeDtypeStruct]) -> None:
  """Whether prompts and images suffice.

  Raises:
    ValueError: one line.
  """
  del shapes
  if len(stream.tasks) > prompt.num_tasks:
    raise ValueError(f'config.prompt_pool_param.pool_size {prompt.num_tasks} '
                     f'has no prompt for each of {len(stream.tasks)} tasks')
  counts = stream.label_counts['train']
  if not counts.all():
    raise ValueError(
        f'class {int(np.argmin(counts))} of {stream.dataset_name} has no '
        'training images, and method it_prompt needs some of each')


def _memory(prompt: base.Prompt, params: Any) -> dict[str, Any]:
  """Memory before the first task."""
  del params
  empty = class_statistics.empty(prompt.num_classes, 1, prompt.width)
  return {MEMORY: {
      'owner': np.full(prompt.num_classes, -1, np.int32),
      'anchors': np.zeros((prompt.num_classes, prompt.width), np.float32),
      'queries': empty, 'features': jax.tree.map(np.copy, empty)}}


def _learning(config: ConfigDict, prompt: base.Prompt, options: ConfigDict
              ) -> dict[str, base.Learning]:
  """How each kind of phase learns."""
  rests = lambda path: (path, lambda task: 0.0)
  on_vectors = {'learning_rate_schedule': 'cosine', 'warmup_epochs': 0,
                'min_learning_rate': _LEAST_RATE, 'grad_clip_max_norm': 0.0}
  prompts = (rests('prompt/prompts'),) if prompt.layers else ()
  head = heads.create(config, prompt.num_classes)
  kinds = {
      'selector': base.Learning(
          {**on_vectors, 'learning_rate': options.selector_rate,
           'num_epochs': options.selector_epochs}, (rests('head/.*'), *prompts),
          functools.partial(it_losses.selector_loss, options),
          2 * options.selector_batch, ('codebook', 'commitment', 'anchor')),
      'alignment': base.Learning(
          {**on_vectors, 'learning_rate': options.align_rate,
           'num_epochs': options.align_epochs}, (rests('prompt/.*'),),
          functools.partial(it_losses.alignment_loss, head),
          options.align_draws)}
  if prompt.layers:
    kinds['prompt'] = base.Learning(rates=_prompt_rates(prompt, options))
  return kinds


def _prompt_rates(prompt: base.Prompt, options: ConfigDict
                  ) -> tuple[base.Rate, ...]:
  """On images: the task's prompt, its classes' classifiers, nothing else."""
  factor = options.classifier_rate
  own = lambda task: jnp.arange(prompt.num_tasks) == task.index
  rates = (
      ('prompt/(fc_kernel|fc_bias|keys)', lambda task: 0.0),
      ('prompt/prompts', lambda task: own(task)[:, None, None, None]),
      ('head/(kernel|bias)', lambda task: factor * task.class_mask))
  if prompt.reads_text:  # the factor is CLIP's
    return rates
  return (*rates, ('(head|prompt)/scale', lambda task: factor))


def _phases(config: ConfigDict, prompt: base.Prompt, stream: 'TaskStream',
            task: 'Task') -> tuple[base.Phase, ...]:
  """Of a task; a switched-off phase still does what is due before its steps."""
  options = config.it_prompt
  selects = options.selector == 'learned'
  aligns = task.index > 0 and options.align and config.head != 'centroids'
  selector = it_rows.Steps(-(-task.num_examples // options.selector_batch),
                           options.selector_epochs * selects)
  alignment = it_rows.Steps(
      len(it_rows.classes_so_far(stream, task.index + 1)),
      options.align_epochs * aligns)
  phases = [base.Phase(
      'selector', selector, functools.partial(
          it_rows.selector_rows, config, stream, task, selector), 'selector',
      begin=functools.partial(arrive, config, prompt))]
  if prompt.layers:
    phases.append(base.Phase(
        'prompt', stream.schedule(task),
        lambda made, probe: stream.batches(task, made), 'prompt'))
  phases.append(base.Phase(
      'alignment', alignment, functools.partial(
          it_rows.alignment_rows, config, stream, task, alignment), 'alignment',
      begin=functools.partial(remember, config)))
  return tuple(phases)


def arrive(config: ConfigDict, prompt: base.Prompt, state: 'TrainState',
           task_index: int, probe: 'Probe | None') -> 'TrainState':
  """Hook as a task begins: what belongs to it starts from its anchors.

  Keys and classifier start as them, its prompt as the one before.
  """
  own, memory = probe.task.class_mask, state.memory[MEMORY]
  anchors = np.where(own[:, None], _anchors(prompt, probe), memory['anchors'])
  params = {**state.params, 'prompt/keys': np.where(
      own[:, None], anchors, state.params['prompt/keys'])}
  if config.head != 'linear':
    params['head/kernel'] = np.where(
        own, anchors.T, state.params['head/kernel'])
  if prompt.layers and task_index:
    prompts = np.array(state.params['prompt/prompts'])
    prompts[task_index] = prompts[task_index - 1]
    params['prompt/prompts'] = prompts
  owner = np.where(own, np.int32(task_index), memory['owner'])
  return state.replace(params=params, memory={**state.memory, MEMORY: {
      **memory, 'owner': owner, 'anchors': anchors}})


def _anchors(prompt: base.Prompt, probe: 'Probe') -> np.ndarray:
  """Directions [C, E] of at least the task's classes.

  Those of their sentences or, without text, of the mean direction of their
  training images by the plain pass.
  """
  if prompt.reads_text:
    return probe.frozen_leaf('prompt/text')
  found = probe.features(None)
  sums = np.zeros((prompt.num_classes, prompt.width))
  np.add.at(sums, found['label'], unit(found['query']))
  return unit(sums).astype(np.float32)


def unit(x: np.ndarray) -> np.ndarray:
  """Rows at length 1, on the host; zero rows stay."""
  return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def remember(config: ConfigDict, state: 'TrainState', task_index: int,
             probe: 'Probe | None') -> 'TrainState':
  """Hook when a task's prompt is done: statistics of its classes.

  With head `centroids` the classes' part of it as well, which is k-means of
  prompted features at length 1.
  """
  del task_index
  found, memory = probe.features(state), state.memory[MEMORY]
  learned = functools.partial(class_statistics.learned, labels=found['label'])
  memory = {**memory,
            'queries': learned(memory['queries'], found['query']),
            'features': learned(memory['features'], found['pre_logits'])}
  params = dict(state.params)
  if config.head == 'centroids':
    own = class_statistics.learned(
        class_statistics.empty(*params[_CENTROIDS].shape),
        unit(found['pre_logits']), found['label'])
    # A class of fewer images than centroids has its first one several times.
    means = np.where(own['count'][..., None] > 0, own['mean'],
                     own['mean'][:, :1])
    new = own['count'].any(axis=1)[:, None, None]
    params[_CENTROIDS] = np.where(new, means, params[_CENTROIDS])
  return state.replace(params=params,
                       memory={**state.memory, MEMORY: memory})
