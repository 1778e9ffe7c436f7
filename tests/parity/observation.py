# SPDX-License-Identifier: Apache-2.0
"""The real training step, which hands out what it computes on its way.

A second pass for the recorded values would have to be compiled as well, and
would not be the pass that is trained on.
"""

from collections.abc import Callable
from typing import Any
from unittest import mock

from promptcl.train_lib.steps import losses
from promptcl.train_lib.steps import train_step as steps


def train_step(*args: Any, **options: Any) -> Callable[..., Any]:
  """The step of `steps.make_train_step` on images, listened to.

  Args:
    *args, **options: of `steps.make_train_step`.

  Returns:
    `step(state, frozen, batch, task) -> (found, what the real step returns)`;
    found are `query`, `out` of the prompted pass with logits before the class
    mask, and `loss`, `logits` and `grads` as `steps.make_gradients` has them.
  """
  found: dict[str, Any] = {}
  make_query, make_gradients = steps.make_query, steps.make_gradients

  def listening_query(model):
    query = make_query(model)

    def run(*arrays):
      found['query'] = query(*arrays)
      return found['query']

    return run

  def listening_gradients(*parts):
    gradients = make_gradients(*parts)

    def run(*arrays):
      loss, logits, grads, (memory, out), named = gradients(*arrays)
      found.update(loss=loss, logits=logits, grads=grads, out=out)
      return loss, logits, grads, memory, named

    return run

  with (mock.patch.object(steps, 'make_query', listening_query),
        mock.patch.object(steps, 'make_gradients', listening_gradients),
        mock.patch.object(losses, 'image_loss', _loss_and_pass)):
    step = steps.make_train_step(*args, **options)

  def observed(*arrays):
    after = step(*arrays)
    return dict(found), after

  return observed


def _loss_and_pass(config: Any, model: Any, method: Any,
                   image_loss: Any = losses.image_loss) -> Callable[..., Any]:
  """`losses.image_loss`, whose memory becomes (memory, prompted pass)."""
  passes, listening = listen(model)
  loss_fn = image_loss(config, listening, method)

  def run(*arrays):
    passes.clear()
    loss, (logits, memory, named) = loss_fn(*arrays)
    return loss, (logits, (memory, passes[0]), named)

  return run


def listen(model: Any) -> tuple[list[Any], Any]:
  """A list, and the model, which puts there what its `apply` returns."""
  found = []

  class Listening:
    """All else is the model's."""

    def __getattr__(self, name):
      return getattr(model, name)

    def apply(self, *args, **options):
      found.append(model.apply(*args, **options))
      return found[-1]

  return found, Listening()
