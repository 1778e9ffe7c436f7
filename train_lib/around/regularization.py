# SPDX-License-Identifier: Apache-2.0
"""Regularizers that hold what was learned, around any method.

  ewc  quadratic pull towards the parameters after earlier tasks, as strong as
       each was important to them
  lwf  distillation from the network as it was before the task

`wrap(method, config, num_classes)` adds what `config.regularizer` names: a loss
of that name, a memory of that name, and a hook after each task.  During the
first task both losses are zero, by what is in memory.
"""


import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from promptcl.models.parts import base
from promptcl.models.parts import options

Array = jax.Array

OPTIONS = options.Section('', {
    'regularizer': '',  # or ewc, lwf
    'ewc_strength': 100.0,
    'lwf_strength': 1.0,
    'lwf_temperature': 2.0,
}, choices={'regularizer': ('', 'ewc', 'lwf')}, positive=('lwf_temperature',),
    not_negative=('ewc_strength', 'lwf_strength'))


def wrap(method: base.Method, config: ConfigDict, num_classes: int
         ) -> base.Method:
  """`method` with the regularizer of the config, or as it is."""
  if config.regularizer == 'ewc':
    return ewc(method, strength=config.ewc_strength)
  if config.regularizer == 'lwf':
    return lwf(method, num_classes, strength=config.lwf_strength,
               temperature=config.lwf_temperature)
  return method


def ewc(method: base.Method, *, strength: float) -> base.Method:
  """Elastic weight consolidation over the trainable leaves.

  Loss: strength / 2 * sum_i F_i (theta_i - a_i)^2, Kirkpatrick et al. (PNAS
  2017), equation 3.  They keep a Fisher diagonal and old parameters for each
  task; here F is the sum over tasks and a is the parameters after the last one,
  which is what their derivation gives for more than two tasks (Huszar, PNAS
  2018) and needs no more memory for more tasks.

  Memory: `fisher` and `anchor`, each like the trainable leaves.
  """
  def memory(params):
    zeros = lambda: jax.tree.map(jnp.zeros_like, dict(params))
    return {'ewc': {'fisher': zeros(), 'anchor': zeros()}}

  def end_task(state, task_index, probe):
    del task_index
    found, known = probe.squared_gradients(state), state.memory['ewc']
    fisher = {path: known['fisher'][path] + found[path] for path in found}
    return state.replace(memory={**state.memory, 'ewc': {
        'fisher': fisher, 'anchor': dict(state.params)}})

  def losses(context):
    fisher, anchor = (context.memory['ewc'][k] for k in ('fisher', 'anchor'))
    return {'ewc': 0.5 * sum(
        jnp.sum(fisher[path] * jnp.square(leaf - anchor[path]))
        for path, leaf in context.params.items())}

  return method.with_part(loss_weights={'ewc': strength}, memory=memory,
                          end_task=end_task, extra_losses=losses)


def lwf(method: base.Method, num_classes: int, *, strength: float,
        temperature: float) -> base.Method:
  """Learning without forgetting: the network before the task is the teacher.

  Loss: strength times `distillation` on all real images of the batch (Li and
  Hoiem, ECCV 2016, equation 3).  The teacher runs as at test time, on the same
  augmented images; recording its answers once, as they do, would need images
  that do not change.  Their warm-up, in which only the head trains, is left
  out.

  Memory: `params`, the trainable leaves of the teacher, and `old`, bool [C],
  the classes of the tasks it has learned.
  """
  def memory(params):
    return {'lwf': {'params': jax.tree.map(jnp.copy, dict(params)),
                    'old': jnp.zeros(num_classes, bool)}}

  def end_task(state, task_index, probe):
    del task_index
    old = state.memory['lwf']['old'] | probe.task.class_mask
    return state.replace(memory={**state.memory, 'lwf': {
        'params': dict(state.params), 'old': np.asarray(old)}})

  def losses(context):
    known = context.memory['lwf']
    teacher = jax.lax.stop_gradient(context.forward(known['params']))
    each = distillation(context.logits, teacher, known['old'],
                        temperature=temperature)
    return {'lwf': jnp.sum(context.mask * each)
                   / jnp.maximum(jnp.sum(context.mask), 1.0)}

  return method.with_part(loss_weights={'lwf': strength}, memory=memory,
                          end_task=end_task, extra_losses=losses)


def distillation(logits: Array, teacher: Array, old: Array, *,
                 temperature: float) -> Array:
  """Divergence of the answers about old classes, [B]; 0 where none is old.

  KL(softmax(teacher / T) || softmax(logits / T)), both over the old classes
  only.  Its gradient is that of the cross-entropy in Li and Hoiem, from which
  it differs by the teacher's entropy.  There is no factor T^2.

  Args:
    logits, teacher: [B, C].
    old: [C] bool.
    temperature: T; above 1 small answers count more.
  """
  # With no old class all compete, so that no NaN arises on the way.
  among = old | ~jnp.any(old)
  ours, theirs = (
      jax.nn.log_softmax(jnp.where(among, x / temperature, -jnp.inf))
      for x in (logits, teacher))
  each = jnp.exp(theirs) * jnp.where(among, theirs - ours, 0.0)
  return jnp.where(jnp.any(old), jnp.sum(each, axis=-1), 0.0)
