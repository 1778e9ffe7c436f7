# SPDX-License-Identifier: Apache-2.0
"""Optimizer chain and learning rate.

clip -> method's transform -> decay of gradients -> Adam(W) or SGD with momentum
(Nesterov's unless `sgd_nesterov` is off) -> decoupled weight decay ->
multipliers -> learning rate.  What belongs to one step (the gradient norm, the
rate, the method's memory, the task) comes in as extra arguments.

Arithmetic: parity with google-research/l2p on flax.optim 0.3.5.
"""

from collections.abc import Iterable, Mapping, Sequence
import re
from typing import Any, TYPE_CHECKING

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import optax

from promptcl.models.parts import base
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.steps import schedules

if TYPE_CHECKING:
  from promptcl.train_lib.steps.train_step import TaskInfo

SCHEDULES = ('constant', 'cosine', 'linear', 'cosine_by_epoch', 'freeze_cosine',
             'lagged_cosine')
OPTIMIZERS = ('adam', 'adamw', 'sgd')


def clip_by_given_norm(max_norm: float | None
                       ) -> optax.GradientTransformationExtraArgs:
  """Multiplies updates by min(1, max_norm / (grad_norm + 1e-6)).

  `grad_norm` is given because it may count gradients of frozen leaves, which
  are not among the updates (`grad_clip_scope = 'all'`).
  """
  def update(updates, state, params=None, *, grad_norm, **unused):
    del params, unused
    if not max_norm:
      return updates, state
    factor = jnp.minimum(1.0, max_norm / (grad_norm + 1e-6))
    return jax.tree.map(lambda g: factor * g, updates), state

  return optax.GradientTransformationExtraArgs(
      lambda params: optax.EmptyState(), update)


def decay_gradients(first: float, later: float
                    ) -> optax.GradientTransformationExtraArgs:
  """Adds parameters times a factor to their gradients, as torch's SGD does.

  Args:
    first: factor in the task of index 0.
    later: factor in others.
  """
  def update(updates, state, params=None, *, task_index, **unused):
    del unused
    factor = jnp.where(task_index > 0, later, first)
    return jax.tree.map(lambda g, p: g + factor * p, updates, params), state

  return optax.GradientTransformationExtraArgs(
      lambda params: optax.EmptyState(), update)


def scale_by_rules(rules: Sequence[tuple[str, float]]
                   ) -> optax.GradientTransformationExtraArgs:
  """Multiplies each leaf's update by the factor of the first rule it matches.

  A part `rate_floor` of the `learning_rate` is given alike to all leaves, and
  no factor counts there.

  Args:
    rules: ((regex over the whole slash path, factor), ...).

  Raises:
    ValueError: on init, a rule that matches no leaf.
  """
  def factor(path):
    return next((f for regex, f in rules if re.fullmatch(regex, path)), 1.0)

  def init(params):
    for regex, _ in rules:
      if not any(re.fullmatch(regex, path) for path in params):
        raise ValueError(
            f'learning_rate_multipliers {regex!r} matches no parameter')
    return optax.EmptyState()

  def update(updates, state, params=None, *, learning_rate=1.0, rate_floor=0.0,
             **unused):
    del params, unused
    share = rate_floor / jnp.where(learning_rate > 0, learning_rate, 1.0)
    factors = {path: factor(path) for path in updates}
    return {path: u if factors[path] == 1.0 else
                  u * (factors[path] + (1.0 - factors[path]) * share)
            for path, u in updates.items()}, state

  return optax.GradientTransformationExtraArgs(init, update)


def scale_by_given_rate() -> optax.GradientTransformationExtraArgs:
  """Turns updates into steps: times minus the `learning_rate` given."""
  def update(updates, state, params=None, *, learning_rate, **unused):
    del params, unused
    return jax.tree.map(lambda u: -learning_rate * u, updates), state

  return optax.GradientTransformationExtraArgs(
      lambda params: optax.EmptyState(), update)


def create(config: ConfigDict, method_transform: optax.GradientTransformation,
           step_transform: optax.GradientTransformation | None = None
           ) -> optax.GradientTransformationExtraArgs:
  """The chain that `config` describes.

  `update` takes the extra arguments `grad_norm`, `learning_rate`, `memory`,
  `task_index` and, where there is one, `rate_floor`.
  """
  ignored = tuple(config.optim_wd_ignore)
  decays = lambda params: {
      p: not any(i in state_lib.original_path(p) for i in ignored)
      for p in params}
  links = [clip_by_given_norm(config.grad_clip_max_norm), method_transform]
  first, later = config.gradient_decay, config.later_gradient_decay
  later = first if later < 0 else later
  if first or later:
    links.append(optax.masked(decay_gradients(first, later), decays))
  if config.optim == 'sgd':
    links.append(optax.trace(decay=config.sgd_momentum,
                             nesterov=config.sgd_nesterov))
  else:
    links.append(optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8))
    links.append(optax.add_decayed_weights(config.weight_decay, mask=decays))
  links.append(scale_by_rules(config.learning_rate_multipliers))
  if step_transform is not None:
    links.append(step_transform)
  links.append(scale_by_given_rate())
  return optax.with_extra_args_support(optax.chain(*links))


def later_rates(config: ConfigDict) -> tuple[base.Rate, ...]:
  """What `later_rate_multipliers` asks for, as rates of a method."""
  later = lambda factor: (
      lambda task: jnp.where(task.index > 0, factor, 1.0))
  return tuple((regex, later(factor))
               for regex, factor in config.later_rate_multipliers)


def check_rates(rates: Iterable[base.Rate], paths: Iterable[str]) -> None:
  """Looks at the rules of a method.

  Raises:
    ValueError: a rule matches none of the trainable leaves.
  """
  for regex, _ in rates:
    if not any(re.fullmatch(regex, path) for path in paths):
      raise ValueError(f'rate for {regex!r} matches no trainable parameter; '
                       'see later_rate_multipliers, thaw and freeze_part')


def task_rates(rates: Iterable[base.Rate], paths: Iterable[str],
               task: 'TaskInfo') -> dict[str, jax.Array]:
  """Product of all rates that match a leaf, where any does; traced."""
  found: dict[str, jax.Array] = {}
  for path in paths:
    for regex, factor in rates:
      if re.fullmatch(regex, path):
        found[path] = jnp.asarray(factor(task), jnp.float32) * found.get(
            path, 1.0)
  return found


def at_rest(grads: Mapping[str, jax.Array], rates: Mapping[str, jax.Array]
            ) -> dict[str, jax.Array]:
  """Gradients with zeros where the rate is 0."""
  return {path: jnp.where(rates[path] != 0, g, 0.0) if path in rates else g
          for path, g in grads.items()}


def at_rates(updates: Mapping[str, jax.Array], rates: Mapping[str, jax.Array]
             ) -> dict[str, jax.Array]:
  """Steps of parameters times their rates."""
  return {path: u * rates[path] if path in rates else u
          for path, u in updates.items()}


def penalty_weight(config: ConfigDict) -> float:
  """Weight of the L2 penalty in the loss; AdamW only decays decoupled."""
  return 0.0 if config.optim == 'adamw' else config.weight_decay


def learning_rate(step: jax.Array, steps_per_epoch: jax.Array,
                  **options: Any
                  ) -> jax.Array:
  """Learning rate of one step, see `rate_and_floor`; [] float32."""
  return rate_and_floor(step, steps_per_epoch, **options)[0]


def rate_and_floor(step: jax.Array, steps_per_epoch: jax.Array, *, base: float,
                   num_epochs: int, warmup_epochs: int = 0,
                   schedule: str = 'constant', minimum: float = 0.0,
                   freeze: Mapping[str, Any] | None = None
                   ) -> tuple[jax.Array, jax.Array]:
  """Learning rate of one step, and the part that multipliers leave alone.

  Args:
    step: counted from 1 within the task.
    steps_per_epoch: of the task.
    base, minimum: already scaled by global batch / 256.
    num_epochs, warmup_epochs: epochs.
    schedule: one of `SCHEDULES`; `cosine_by_epoch` keeps the rate of an
      epoch's first step through it, so that it is never 0.
    freeze: what else `schedules.freeze_cosine` wants.

  Returns:
    Both [] float32; the second is 0 but in `freeze_cosine`.
  """
  if schedule == 'freeze_cosine':
    return schedules.freeze_cosine(
        step, steps_per_epoch, base=base, minimum=minimum,
        num_epochs=num_epochs, warmup_epochs=warmup_epochs, **(freeze or {}))
  epoch = step / steps_per_epoch
  if schedule in ('cosine_by_epoch', 'lagged_cosine'):
    epoch = (step - 1) // steps_per_epoch  # whole ones made before this one
  # A phase may go on for more epochs than the schedule knows.
  progress = jnp.clip(
      (epoch - warmup_epochs) / (num_epochs - warmup_epochs), 0.0, 1.0)
  cosine = lambda: 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
  rate = base * {
      'constant': lambda: 1.0, 'cosine': cosine, 'cosine_by_epoch': cosine,
      'linear': lambda: 1.0 - progress,
      'lagged_cosine': lambda: schedules.lagged_cosine(epoch, num_epochs),
  }[schedule]()
  if warmup_epochs:
    rate *= jnp.minimum(1.0, epoch / warmup_epochs)
  rate = jnp.where(epoch < warmup_epochs, rate, jnp.maximum(rate, minimum))
  return jnp.asarray(rate, jnp.float32), jnp.zeros((), jnp.float32)


def schedule_options(config: ConfigDict, global_batch_size: int
                     ) -> dict[str, Any]:
  """Keyword arguments of `learning_rate` from a config."""
  scale = global_batch_size / 256.0
  return dict(
      base=config.learning_rate * scale, num_epochs=config.num_epochs,
      warmup_epochs=config.warmup_epochs,
      schedule=config.learning_rate_schedule,
      minimum=config.min_learning_rate * scale,
      freeze=schedules.freeze_options(config))
