# SPDX-License-Identifier: Apache-2.0
"""Learning-rate curves of published code that are none of the usual ones.

Cosines are written as sines of what remains: near the end `1 + cos` would lose
most digits of a small rate in float32.
"""


import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

Array = jax.Array


def freeze_cosine(step: Array, steps_per_epoch: Array, *, base: float,
                  minimum: float, num_epochs: int, warmup_epochs: int = 0,
                  freeze_steps: int = 0, nominal_steps: int = 0,
                  first_step_factor: float = 1.0) -> tuple[Array, Array]:
  """At the least rate for some steps, then a warm-up, then half a cosine.

  As the code of VQ-Prompt has it, with its effects: the first step stands in
  front of the curve, and the curve counts with epochs of a fixed length.

    S[i] = minimum                                               i < F
           base * (i - F) / (W - 1)                              i < F + W
           minimum + (base - minimum) * (1 + cos(pi * p)) / 2,
             p = (i - F - W) / (M - F - W)                       i < M

  and minimum from then on.

  Args:
    step: counted from 1 within the phase.
    steps_per_epoch: of the phase.
    base, minimum: highest and least rate of the curve.
    num_epochs, warmup_epochs: M and W in epochs.
    freeze_steps: F.
    nominal_steps: per epoch, that M and W count with; 0: `steps_per_epoch`.
    first_step_factor: of `base`, at the first step, and S[0] is the rate of
      the second; 0: S[0] is that of the first.

  Returns:
    The rate [] float32, and the part of it that does not come from `base`: a
    rate of m * base has the same.
  """
  # Whole numbers, which float32 holds up to 2^24 and which never overflow.
  epoch = jnp.asarray(nominal_steps or steps_per_epoch, jnp.float32)
  i = jnp.asarray(step, jnp.float32) - (2.0 if first_step_factor else 1.0)
  i = jnp.maximum(i, 0.0)
  warmup = warmup_epochs * epoch
  length = jnp.maximum(num_epochs * epoch - freeze_steps - warmup, 1.0)
  left = jnp.clip(length - (i - freeze_steps - warmup), 0.0, length)
  share = jnp.square(jnp.sin(0.5 * jnp.pi * (left / length)))
  rising = (i - freeze_steps) / jnp.maximum(warmup - 1.0, 1.0)
  floor = minimum * (1.0 - share)
  share, floor = (
      jnp.where(i < freeze_steps, frozen,
                jnp.where(i < freeze_steps + warmup, warm, cosine))
      for frozen, warm, cosine in ((0.0, rising, share),
                                   (minimum, 0.0, floor)))
  if first_step_factor:
    share = jnp.where(step == 1, first_step_factor, share)
    floor = jnp.where(step == 1, 0.0, floor)
  floor = jnp.asarray(floor, jnp.float32)
  return jnp.asarray(base * share + floor, jnp.float32), floor


def lagged_cosine(epoch: Array, num_epochs: int) -> Array:
  """Factor of the rate in an epoch, from 0: that of the epoch before.

  cos(99 pi m / (200 (E - 1))), m = max(epoch - 1, 0), the cosine of
  CODA-Prompt's code as it is stepped in VQ-Prompt's.
  """
  last = max(num_epochs - 1, 1)
  before = jnp.clip(epoch - 1, 0, last)
  return jnp.sin(jnp.pi * (100 * last - 99 * before) / (200 * last))


def freeze_options(config: ConfigDict) -> dict[str, float]:
  """Keyword arguments of `freeze_cosine` that its config group holds."""
  group = config.freeze_cosine
  return dict(freeze_steps=group.freeze_steps,
              nominal_steps=group.steps_per_epoch,
              first_step_factor=group.first_step_factor)
