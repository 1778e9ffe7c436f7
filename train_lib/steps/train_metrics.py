# SPDX-License-Identifier: Apache-2.0
"""What training reports, merged over devices, hosts and steps by CLU."""

from collections.abc import Iterable, Mapping
import operator
import types

from clu import metrics as clu_metrics
import flax
import jax
import jax.numpy as jnp

_NONE: Mapping[str, jax.Array | None] = types.MappingProxyType({})


@flax.struct.dataclass
class _Deviation(clu_metrics.Metric):
  """Population standard deviation of scalars, merged by Chan's formula.

  CLU's own `Std` subtracts two large numbers, which leaves up to 1e-3 where
  all values are equal, and its `compute` calls a form of `jnp.clip` that JAX
  has dropped.
  """

  count: jax.Array
  mean: jax.Array
  squares: jax.Array  # sum of squared distances from the mean

  @classmethod
  def empty(cls) -> '_Deviation':
    return cls(jnp.float32(0), jnp.float32(0), jnp.float32(0))

  @classmethod
  def from_model_output(cls, values: jax.Array, **_) -> '_Deviation':
    return cls(jnp.float32(1), jnp.float32(values), jnp.float32(0))

  def merge(self, other: '_Deviation') -> '_Deviation':
    count = self.count + other.count
    share = other.count / jnp.maximum(count, 1)
    distance = other.mean - self.mean
    return _Deviation(
        count, self.mean + share * distance,
        self.squares + other.squares + self.count * share * distance**2)

  def compute(self) -> jax.Array:
    return jnp.sqrt(self.squares / self.count)


@flax.struct.dataclass
class _Named(clu_metrics.Metric):
  """Means of scalars by name, each over the steps that have it."""

  total: dict[str, jax.Array]
  count: dict[str, jax.Array]

  @classmethod
  def empty(cls) -> '_Named':
    return cls({}, {})

  @classmethod
  def from_model_output(cls, losses: Mapping[str, jax.Array | None] = _NONE,
                        **_) -> '_Named':
    number = lambda value: jnp.float32(0 if value is None else value)
    return cls({name: number(value) for name, value in losses.items()},
               {name: jnp.float32(value is not None)
                for name, value in losses.items()})

  def merge(self, other: '_Named') -> '_Named':
    return jax.tree.map(operator.add, self, other)

  def reduce(self) -> '_Named':
    """Over devices; CLU's own wants at least one name."""
    return jax.tree.map(lambda x: jnp.sum(x, axis=0), self)

  def compute(self) -> dict[str, jax.Array]:
    return {name: total / self.count[name]
            for name, total in self.total.items() if self.count[name]}


def _right(logits: jax.Array, labels: jax.Array,
           weight: jax.Array | None = None, **_) -> dict[str, jax.Array | None]:
  """Which images are classified correctly; those of weight 0 do not count."""
  return dict(values=(jnp.argmax(logits, axis=-1) == labels) * 1.0,
              mask=None if weight is None else weight > 0)


@flax.struct.dataclass
class TrainMetrics(clu_metrics.Collection):
  """Training metrics under the original's names.

  Model outputs: `logits` [B, C] (masked), `labels` [B] int32, if wanted
  `weight` [B], and the scalars `loss`, `learning_rate`, `l2_grads` (global norm
  before clipping); `losses`, terms of the loss by name as they enter it, None
  for what a step does not have.  `loss_std` is the deviation between the losses
  of devices and steps.  A term `pull` is called `loss/pull`.
  """

  train_accuracy: clu_metrics.Average.from_fun(_right)
  learning_rate: clu_metrics.LastValue.from_output('learning_rate')
  loss: clu_metrics.Average.from_output('loss')
  loss_std: _Deviation.from_output('loss')
  l2_grads: clu_metrics.Average.from_output('l2_grads')
  losses: _Named

  @classmethod
  def none_yet(cls, loss_names: Iterable[str]) -> 'TrainMetrics':
    """Before the first step, in the structure that steps return."""
    zeros = lambda: {name: jnp.float32(0) for name in loss_names}
    return cls.empty().replace(losses=_Named(zeros(), zeros()))

  def compute(self) -> dict[str, jax.Array]:
    """Values by tag; on the host."""
    values = super().compute()
    named = values.pop('losses')
    return {**values, **{f'loss/{name}': x for name, x in named.items()}}
