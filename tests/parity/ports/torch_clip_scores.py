# SPDX-License-Identifier: Apache-2.0
"""Logits and scores of CLIP with learned prompts over sets of images."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from promptcl.models.parts import base
from promptcl.train_lib import program as program_lib
from promptcl.train_lib.core import parallel
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.steps import eval_step
from promptcl.train_lib.steps import train_step as steps


class Scoring:
  """The evaluation step in batches of one size, the last one padded."""

  def __init__(self, program: program_lib.Program, frozen: Any, devices: Any,
               owner: np.ndarray, batch_size: int):
    self._frozen, self._devices = frozen, devices
    self._owner, self._size = owner, batch_size
    model = program.model
    self._vectors = parallel.pmap(
        eval_step.make_class_vectors(model), devices=devices)
    self._step = parallel.pmap(
        eval_step.make_eval_step(program.config, model, class_tasks=owner),
        in_axes=(0, 0, 0, 0, None, None, None, 0), devices=devices)
    self._logits = parallel.pmap(lambda state, frozen, batch, vectors: (
        model.apply(state_lib.variables(state_lib.overlay(
            frozen, state.params)), batch['image'], base.Query(), np.int32(-1),
                    train=False, class_vectors=vectors).logits,
        eval_step.known_until(owner, batch)), devices=devices)

  def logits(self, state: Any, images: np.ndarray, labels: np.ndarray
             ) -> tuple[np.ndarray, np.ndarray]:
    """All logits [N, C], and which classes compete in each image's batch."""
    state, found = parallel.replicate(state, self._devices), []
    vectors = self._vectors(state, self._frozen)
    for count, batch in self._batches(images, labels):
      logits, known = parallel.unreplicate(
          self._logits(state, self._frozen, batch, vectors))
      found.append((logits[:count], np.tile(known, (count, 1))))
    return tuple(map(np.concatenate, zip(*found, strict=True)))

  def right(self, state: Any, images: np.ndarray, labels: np.ndarray,
            task: int = 0) -> dict[str, int]:
    """Named scores of all images; the task's own is known to be `task`."""
    info = steps.TaskInfo.create(task, self._owner == task, first_step=0,
                                 steps_per_epoch=1)
    state, found = parallel.replicate(state, self._devices), []
    vectors = self._vectors(state, self._frozen)
    for _, batch in self._batches(images, labels):
      sums = self._step(state, self._frozen, batch, base.Query(), info,
                        np.ones(len(self._owner), bool), np.bool_(False),
                        vectors)
      found.append(parallel.unreplicate(sums)['correct'])
    return {name: sum(int(each[name]) for each in found) for name in found[0]}

  def _batches(self, images: np.ndarray, labels: np.ndarray
               ) -> Iterator[tuple[int, Any]]:
    """Number of real rows and a batch of full size, on the device."""
    for i in range(0, len(labels), self._size):
      rows = np.arange(i, i + self._size)
      real = rows < len(labels)
      rows = np.where(real, rows, 0)
      yield int(real.sum()), parallel.shard(
          {'image': images[rows], 'label': labels[rows],
           'mask': real.astype(np.float32), 'index': rows.astype(np.int32)},
          self._devices)
