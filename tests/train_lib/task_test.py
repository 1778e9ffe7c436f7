# SPDX-License-Identifier: Apache-2.0
"""What happens around a task, and what does not."""

import dataclasses
import json
import types

import jax
import numpy as np
import pytest

from promptcl.train_lib import evaluate
from promptcl.train_lib import program as program_lib
from promptcl.train_lib import train
from promptcl.train_lib.core import parallel
from promptcl.train_lib.resume import checkpoint
from tests.helpers import fakes


@pytest.mark.parametrize('index, reinit, forgotten', [
    (0, True, False), (1, True, True), (1, False, False)])
def test_each_task_but_the_first_starts_with_a_new_optimizer(
    index, reinit, forgotten):
  config = fakes.config(reinit_optimizer=reinit)
  model, method, optimizer, _, state = fakes.start(config)
  program = program_lib.Program(config, model, method, optimizer, None, None)
  moved = state.replace(
      step=np.int32(7), opt_state=jax.tree.map(np.ones_like, state.opt_state))
  task = types.SimpleNamespace(index=index)
  begun = parallel.unreplicate(
      train.begin_task(program, parallel.replicate(moved), task, None))
  kept = all(np.all(x == 1) for x in jax.tree.leaves(begun.opt_state))
  gone = all(np.all(x == 0) for x in jax.tree.leaves(begun.opt_state))
  assert (kept, gone) == (not forgotten, forgotten)
  assert begun.step == 7
  jax.tree.map(np.testing.assert_array_equal, begun.params, state.params)


@pytest.mark.parametrize('changes, due', [
    (dict(eval_per_epochs=1), {5, 10, 15}),
    (dict(eval_per_epochs=2), {10}),
    (dict(eval_per_epochs=0, eval_every_steps=4), {4, 8, 12, 16}),
    (dict(eval_per_epochs=0, eval_every_steps=-1), set()),
    (dict(eval_per_epochs=1, eval_last_only=True), set()),
])
def test_when_an_evaluation_is_due(changes, due):
  config = fakes.config(**changes)
  found = {step for step in range(1, 18)
           if evaluate.due_after_step(config, step, steps_per_epoch=5)}
  assert found == due


class _Sparse:
  """A stream whose tasks but the last are not followed by an evaluation."""

  def __init__(self, stream):
    self._stream = stream
    *early, last = stream.tasks
    self.tasks = (*(dataclasses.replace(t, eval_sets=()) for t in early), last)

  def __getattr__(self, name):
    return getattr(self._stream, name)


def test_tasks_without_evaluation_cost_no_checkpoint(tmp_path, monkeypatch):
  config = fakes.config(tmp_path, num_epochs=1, eval_per_epochs=0,
                        eval_every_steps=1, reinit_optimizer=False,
                        method='none', vit_classifier='token')
  program, stream = train.prepare(config)
  saved, copied = [], []
  save, unreplicate = checkpoint.Checkpointer.save, parallel.unreplicate
  monkeypatch.setattr(
      checkpoint.Checkpointer, 'save',
      lambda self, point, *args: (saved.append(point.task),
                                  save(self, point, *args)))
  monkeypatch.setattr(
      parallel, 'unreplicate',
      lambda tree: (copied.append(type(tree).__name__), unreplicate(tree))[1])
  results = train.train_and_evaluate(program, _Sparse(stream), str(tmp_path))
  assert saved == [2]
  assert copied.count('TrainState') == 1  # for that checkpoint
  assert np.all(results.correct['per_sample'][:2] == -1)
  assert results.finished and np.all(results.seconds > 0)
  report = json.loads((tmp_path / 'results.json').read_text())
  assert report['finished']
  assert report['headline']['metrics']['last_acc'] == pytest.approx(
      results.accuracies()[2].mean())
