# SPDX-License-Identifier: Apache-2.0
"""The evaluator: every image once, query features once, who competes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from promptcl.train_lib import evaluate
from promptcl.train_lib import train
from promptcl.train_lib.core import parallel
from promptcl.train_lib.core import state as state_lib
from tests.helpers import fakes


class Setting:
  """A program with random parameters, its stream and an evaluator."""

  def __init__(self, folder, params=None, **changes):
    config = fakes.config(folder, **changes)
    self.program, self.stream = train.prepare(config)
    *_, frozen, state = fakes.start(config)
    state = state.replace(params={**state.params, **(params or {})})
    self.params = state_lib.variables(state_lib.overlay(frozen, state.params))
    self.evaluator = evaluate.Evaluator(self.program, self.stream)
    self._replicated = parallel.replicate(state), parallel.replicate(frozen)

  def __call__(self, task, *, compare=True):
    return self.evaluator(*self._replicated, self.stream.tasks[task],
                          compare=compare)

  @functools.cached_property
  def _run(self):
    model = self.program.model

    @jax.jit
    def run(images):
      query = model.apply(self.params, images, method='query')
      return model.apply(self.params, images, query, jnp.int32(-1),
                         train=False, vote=False).logits

    return run

  def per_sample_logits(self, eval_set):
    """Straight from the model, one image at a time in effect, and labels."""
    logits, labels = [], []
    for batch in self.stream.eval_batches(self.stream.eval_sets[eval_set]):
      real = batch['mask'] > 0
      logits.append(np.asarray(self._run(batch['image']))[real])
      labels.append(batch['label'][real])
    return np.concatenate(logits), np.concatenate(labels)


@pytest.fixture(scope='module')
def setting(tmp_path_factory):
  """Two images a device, so that votes mean something; seen classes compete."""
  return Setting(tmp_path_factory.mktemp('evaluate'), eval_classes='seen',
                 per_device_batch_size=2)


@pytest.mark.parametrize('changes, name', [
    ({}, 'batch'),
    ({'continual.eval_task_inc': True}, 'batch_task_inc'),
    ({'prompt_pool_param.batchwise_prompt': False}, 'per_sample'),
    ({'eval_selection': 'per_sample', 'continual.eval_task_inc': True},
     'per_sample_task_inc')])
def test_headline(changes, name):
  config = fakes.config(**changes)
  assert evaluate.headline(config, fakes.tiny_model(config)[0]) == name


def test_sets_so_far_are_scored_and_nothing_else(setting):
  assert list(setting(0)) == [0]
  scores = setting(2)
  assert list(scores) == [0, 1, 2]
  assert [score.total for score in scores.values()] == [14, 14, 14]


@pytest.mark.parametrize('task', [0, 1, 2])
def test_scores_equal_those_of_the_bare_model(setting, task):
  scores = setting(task)
  for index, score in scores.items():
    logits, labels = setting.per_sample_logits(index)
    for name, classes in (('per_sample', range(2 * task + 2)),
                          ('per_sample_task_inc', (2 * index, 2 * index + 1))):
      allowed = np.isin(np.arange(6), list(classes))
      best = np.argmax(np.where(allowed, logits, -np.inf), axis=1)
      assert score.correct[name] == np.sum(best == labels), (index, name)
    assert np.isfinite(score.loss)
    assert score.prompt_counts.sum() == 14 * 2


def test_without_comparison_only_the_headline_is_named(setting):
  score = setting(1, compare=False)[1]
  assert set(score.correct) == {'batch', 'batch_task_inc', 'top5'}
  full = setting(1)[1]
  assert {k: full.correct[k] for k in score.correct} == score.correct
  assert score.loss == full.loss


def test_query_features_are_kept(setting, monkeypatch):
  for task in range(3):
    setting(task)

  def fail(*args):
    raise AssertionError('query features are computed again')

  monkeypatch.setattr(setting.evaluator, '_query', fail)
  before = setting(2)
  assert [score.total for score in before.values()] == [14, 14, 14]


def test_query_features_beyond_the_room_are_computed_again(setting):
  small = evaluate.Evaluator(setting.program, setting.stream)
  calls, query = [], small._query
  small._query = lambda *args: (calls.append(args), query(*args))[1]
  small._room = 16 * 16 * 4  # one batch of 16 class tokens of width 16
  run = lambda: small(*setting._replicated, setting.stream.tasks[1],
                      compare=True)
  first, second = run(), run()
  assert len(calls) == 2 + 1 and first[1].correct == second[1].correct


def test_a_lost_image_is_noticed(setting, monkeypatch):
  whole = setting.stream.eval_batches

  def lossy(eval_set):
    for batch in whole(eval_set):
      yield dict(batch, mask=batch['mask'] * (batch['index'] != 3))

  monkeypatch.setattr(setting.stream, 'eval_batches', lossy)
  with pytest.raises(AssertionError, match='13 images of 14'):
    setting(0)


def test_all_classes_compete_by_default(tmp_path):
  # A head that always prefers the class with the highest number.
  head = {'head/kernel': np.zeros((16, 6), np.float32),
          'head/bias': np.arange(6, dtype=np.float32)}
  setting = Setting(tmp_path, params=head, num_eval_steps=1,
                    **{'prompt_pool_param.batchwise_prompt': False})
  score = setting(0)[0]
  assert score.total == 8  # one batch, as num_eval_steps asks
  _, labels = setting.per_sample_logits(0)
  assert score.correct['per_sample'] == 0
  assert score.correct['per_sample_task_inc'] == np.sum(labels[:8] == 1) > 0
