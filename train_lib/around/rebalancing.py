# SPDX-License-Identifier: Apache-2.0
"""Re-balancing of the classifier on draws from Gaussians of all classes so far.

After a task, mean and variance of the features of its images are kept for each
of its classes; from the second task on the head alone then trains on vectors
drawn for all of them, so that old and new classes meet.  It goes around any
method with a head: `config.rebalance`.

Second stage of VQ-Prompt (Jiao et al., NeurIPS 2024), as the authors' code has
it: equally many draws from each Gaussian, shuffled, of which an epoch takes as
many batches as there are old classes and drops the rest; statistics of old
classes are never computed anew.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from promptcl import input_pipeline
from promptcl.models.heads import heads
from promptcl.models.parts import base
from promptcl.models.parts import class_statistics
from promptcl.models.parts import options
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.steps import losses

Array = jax.Array
Phases = Callable[..., tuple[base.Phase, ...]]
KIND = 'rebalance'  # of the phase, and its name
MEMORY = 'rebalance'
_LATER = 0.1  # rate of all steps but the first, over that of the first
_DRAWN = 1  # last word of a seed, so that it is no seed of an order

OPTIONS = options.Section('rebalance', {
    'epochs': 0,  # after each task but the first; 0: off
    'batch_ratio': 4,  # rows of a step, per image of a batch
    'learning_rate': 1e-4,  # at the first step, then a tenth of it and half a
    # cosine; for any number of rows
    'min_learning_rate': 1e-6,  # likewise
    'weight_decay': 5e-4,
    'clusters': 1,  # Gaussians per class
    'augment': True,  # features of images as in training; else as in a test
}, positive=('batch_ratio', 'clusters'), not_negative=(
    'epochs', 'learning_rate', 'min_learning_rate', 'weight_decay'))


def wrap(method: base.Method, config: ConfigDict,
         shapes: Mapping[str, jax.ShapeDtypeStruct]) -> base.Method:
  """Adds what `config.rebalance` asks for to a method.

  Args:
    method: with all other parts.
    config: expanded.
    shapes: flat, of all parameters of the model.

  Memory `rebalance`: `statistics`, see `class_statistics.empty`; `seen` [C],
  classes whose task has come.

  Raises:
    ValueError: there is no head that could be trained so, or no task borders.
  """
  if not config.rebalance.epochs:
    return method
  trainable = state_lib.trainable_paths(
      shapes, config.freeze_part, config.thaw)
  _check(config, method, trainable)
  width, num_classes = shapes['head/kernel'].shape

  def memory(params):
    del params
    return {MEMORY: {'statistics': class_statistics.empty(
        num_classes, config.rebalance.clusters, width),
                     'seen': np.zeros(num_classes, bool)}}

  rests = any(not path.startswith('head/') for path in trainable)
  learning = base.Learning(
      settings(config),
      rates=(('(?!head/).*', lambda task: 0.0),) if rests else (),
      loss=make_loss(config), batch_size=batch_size(config))
  return method.with_part(memory=memory, phases=_make_phases(config),
                          learning={KIND: learning})


def _check(config: ConfigDict, method: base.Method, trainable: Iterable[str]
           ) -> None:
  if 'head/kernel' not in trainable or method.phases is base.no_phases:
    raise ValueError('config.rebalance.epochs trains the head, which is frozen '
                     'here; set it to 0')
  if config.task_heads:
    raise ValueError('config.rebalance.epochs needs one head over all tasks; '
                     'set config.task_heads to False')
  if config.gaussian_schedule:
    raise ValueError('config.gaussian_schedule has no task borders, which '
                     'config.rebalance.epochs needs')


def batch_size(config: ConfigDict) -> int:
  """Rows of a step over all devices and hosts, S."""
  return (config.rebalance.batch_ratio * config.per_device_batch_size
          * jax.device_count())


def settings(config: ConfigDict) -> dict[str, object]:
  """Keys of the config that have another value while the head is trained."""
  own, scale = config.rebalance, 256 / batch_size(config)
  return {
      'optim': 'adamw', 'weight_decay': own.weight_decay,
      'optim_wd_ignore': (), 'grad_clip_max_norm': 0.0,
      'learning_rate': _LATER * own.learning_rate * scale,
      'min_learning_rate': own.min_learning_rate * scale,
      'learning_rate_schedule': 'freeze_cosine',
      'learning_rate_multipliers': (), 'num_epochs': own.epochs,
      'warmup_epochs': 0, 'freeze_cosine.freeze_steps': 0,
      'freeze_cosine.steps_per_epoch': 0,
      'freeze_cosine.first_step_factor': 1 / _LATER}


def make_loss(config: ConfigDict
              ) -> Callable[[base.RowContext], tuple[Array, Array]]:
  """-> the loss of a step: mean cross-entropy over all classes seen so far."""
  def loss(context):
    memory, labels = context.memory[MEMORY], context.batch['label']
    vectors = class_statistics.draw(
        memory['statistics'], labels, context.batch['slot'], context.keys)
    head = {path.removeprefix('head/'): leaf
            for path, leaf in context.params.items() if path.startswith('head')}
    logits = heads.create(config, memory['seen'].shape[0]).apply(
        {'params': head}, vectors)
    logits = losses.masked(logits, memory['seen'])
    return jnp.mean(losses.cross_entropy(logits, labels)), logits, {}

  return loss


def make_collect(config: ConfigDict) -> base.Hook:
  """-> the hook that keeps the statistics of the task's classes."""
  def collect(state, task_index, probe):
    del task_index
    features = probe.features(state, augment=config.rebalance.augment)
    before = state.memory[MEMORY]
    after = {'statistics': class_statistics.learned(
        before['statistics'], features['pre_logits'], features['label']),
             'seen': before['seen'] | probe.task.class_mask}
    return state.replace(memory={**state.memory, MEMORY: after})

  return collect


def _make_phases(config: ConfigDict) -> Phases:
  """-> `phases(stream, task)`: the re-balancing.

  That of the first task has no steps, only its hook.
  """
  collect = make_collect(config)

  def phases(stream, task):
    tasks = stream.tasks[:task.index]
    old = np.any([t.class_mask for t in tasks], axis=0) if tasks else (
        np.zeros_like(task.class_mask))
    count, epochs = int(np.sum(old)), config.rebalance.epochs
    seen = np.flatnonzero(old | task.class_mask)

    def batches(made, probe):
      stats = probe.state().memory[MEMORY]['statistics']
      return _batches(config, stats, seen, task.index, num_batches=count,
                      made=made)

    return (base.Phase(
        KIND, input_pipeline.Schedule(max(count, 1), epochs, count * epochs),
        batches, kind=KIND, begin=collect),)

  return phases


def _batches(config: ConfigDict, stats: class_statistics.Statistics,
             classes: np.ndarray, task_index: int, *, num_batches: int,
             made: int) -> Iterator[dict[str, np.ndarray]]:
  """Label and slot of all rows of each step but the `made` first."""
  for number in range(made, num_batches * config.rebalance.epochs):
    epoch, i = divmod(number, num_batches)
    if number == made or not i:
      rng = np.random.default_rng(
          [config.seed, task_index, epoch, 0, 0, _DRAWN])
      rows = epoch_rows(rng, stats, classes, size=batch_size(config),
                        num_batches=num_batches)
    yield {name: x[i] for name, x in rows.items()}


def epoch_rows(rng: np.random.Generator, stats: class_statistics.Statistics,
               classes: np.ndarray, *, size: int, num_batches: int
               ) -> dict[str, np.ndarray]:
  """What the steps of an epoch draw.

  Args:
    rng: shuffles.
    stats: on the host.
    classes: all that were seen.
    size: draws from each Gaussian, and rows of a step.
    num_batches: steps.

  Returns:
    `label` and `slot`, int32 [num_batches, size]; rows come again where too
    many Gaussians without spread left too few.

  Raises:
    ValueError: no Gaussian has a spread.
  """
  labels, slots = class_statistics.balanced(rng, stats, classes, size)
  if not labels.size:
    raise ValueError('no class has two images that differ, so there is nothing '
                     'to re-balance the head with; set config.rebalance.epochs '
                     'to 0')
  shape = num_batches, size
  return {'label': np.resize(labels, shape), 'slot': np.resize(slots, shape)}
