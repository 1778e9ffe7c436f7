# SPDX-License-Identifier: Apache-2.0
"""The eval step: votes, selections beside them, competing classes, padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from promptcl.train_lib.core import parallel
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.steps import eval_step
from tests.helpers import fakes

ONE = jax.devices()[:1]
SELECTIONS = ('batch', 'per_sample', 'batch_task_inc', 'per_sample_task_inc')


@pytest.mark.parametrize('voted, own, ordered, differs', [
    ([[0, 1]], [[0, 1]], True, False), ([[0, 1]], [[1, 0]], True, True),
    ([[0, 1]], [[1, 0]], False, False), ([[0, 1]], [[0, 2]], False, True)])
def test_when_a_vote_differs_from_own_choices(voted, own, ordered, differs):
  args = jnp.array(voted), jnp.array(own)
  assert bool(eval_step.differ(*args, jnp.ones(1), ordered=ordered)) == differs
  assert not eval_step.differ(*args, jnp.zeros(1), ordered=ordered)


@pytest.mark.parametrize('changes, votes', [
    ({}, True),
    ({'prompt_pool_param.batchwise_prompt': False}, False),
    ({'eval_selection': 'per_sample'}, False),
    ({'eval_selection': 'batch',
      'prompt_pool_param.batchwise_prompt': False}, True),
    ({'eval_selection': 'batch', 'prompt_pool_param.batchwise_prompt': False,
      'prompt_pool_param.embedding_key': 'mean'}, True),
    ({'eval_selection': 'batch', 'method': 'none', 'vit_classifier': 'token'},
     False),
])
def test_who_votes_at_test_time(changes, votes):
  config = fakes.config(**changes)
  assert eval_step.votes_at_test(config, fakes.tiny_model(config)[0]) == votes


def test_classes_of_tasks_up_to_the_last_true_one_of_a_batch():
  owner = np.array([0, 0, 2, 1])  # an order of classes that is not of tasks
  known = lambda labels, mask: eval_step.known_until(owner, {
      'label': np.array(labels), 'mask': np.array(mask)}).tolist()
  assert known([0, 1], [1, 1]) == [True, True, False, False]
  assert known([0, 3], [1, 1]) == [True, True, False, True]
  assert known([0, 2], [1, 1]) == [True] * 4
  assert known([0, 2], [1, 0]) == [True, True, False, False]  # padding
  assert known([0, 2], [0, 0]) == [False] * 4


class Evaluation:
  """The eval step of the voting L2P on one device, random parameters."""

  def __init__(self):
    self.config = fakes.config()
    self.model, _, _, self.frozen, self.state = fakes.start(self.config)
    self.params = state_lib.variables(
        state_lib.overlay(self.frozen, self.state.params))
    self._query = jax.jit(
        lambda x: self.model.apply(self.params, x, method='query'))
    self._logits = jax.jit(
        lambda images, mask, vote: self.model.apply(
            self.params, images, self._query(images), jnp.int32(-1),
            train=False, vote=vote, mask=mask), static_argnames='vote')
    self._step = parallel.pmap(
        eval_step.make_eval_step(self.config, self.model),
        in_axes=(None, None, 0, 0, None, None, None), devices=ONE)

  def __call__(self, batch, *, classes=range(6), competing=range(6),
               compare=True):
    info = fakes.task_info(classes=classes)
    sharded = parallel.shard((batch, self._query(batch['image'])), ONE)
    return parallel.unreplicate(self._step(
        self.state, self.frozen, *sharded, info,
        np.isin(np.arange(6), list(competing)), np.bool_(compare)))

  def logits(self, batch, *, vote):
    """The same from the model itself, image for image."""
    return self._logits(batch['image'], batch['mask'], vote=vote)


@pytest.fixture(scope='module')
def evaluation():
  return Evaluation()


def _right(logits, labels, classes=range(6)):
  allowed = np.isin(np.arange(6), list(classes))
  best = np.argmax(np.where(allowed, logits, -np.inf), axis=1)
  return int(np.sum(best == labels))


def _varied(count=16):
  """Images bright enough for queries, and so choices, to differ."""
  batch = fakes.batch(count)
  shades = np.random.default_rng(5).normal(0, 3, (count, 1, 1, 3))
  return {**batch, 'image': (batch['image'] + shades).astype(np.float32)}


def test_per_sample_selection_is_scored_beside_the_vote(evaluation):
  batch = _varied()
  voted = evaluation.logits(batch, vote=True)
  alone = evaluation.logits(batch, vote=False)
  # Otherwise this test says nothing.
  assert len(np.unique(np.sort(alone.selection.indices, axis=1), axis=0)) > 1
  # Labels that tell the two apart: what the per-image pass answers.
  batch['label'] = np.argmax(alone.logits, axis=1).astype(np.int32)
  sums = evaluation(batch)
  assert set(sums['loss']) == set(SELECTIONS)
  assert set(sums['correct']) == {*SELECTIONS, 'top5'}
  assert sums['total'] == 16
  assert sums['correct']['per_sample'] == 16
  assert sums['correct']['batch'] == _right(voted.logits, batch['label']) < 16
  counts = np.bincount(np.ravel(voted.selection.indices), minlength=4)
  np.testing.assert_array_equal(sums['prompt_counts'], counts)


def test_without_comparison_the_second_pass_is_spared(evaluation):
  batch = _varied()
  sums = evaluation(batch, compare=False)
  assert sums['loss']['per_sample'] == sums['loss']['batch']
  assert evaluation(batch)['loss']['per_sample'] != sums['loss']['batch']


def test_task_incremental_scores_let_the_classes_of_the_set_compete(evaluation):
  batch = _varied()
  batch['label'] = (batch['label'] % 2 + 2).astype(np.int32)
  sums = evaluation(batch, classes=(2, 3), competing=(0, 2, 3))
  logits = evaluation.logits(batch, vote=True).logits
  task = _right(logits, batch['label'], (2, 3))
  seen = _right(logits, batch['label'], (0, 2, 3))
  assert task > seen  # otherwise this test says nothing
  assert sums['correct']['batch_task_inc'] == task
  assert sums['correct']['batch'] == seen
  chosen = np.asarray(logits, np.float64)[:, [2, 3]]
  loss = np.log(np.exp(chosen).sum(1)) - chosen[range(16), batch['label'] - 2]
  assert float(sums['loss']['batch_task_inc']) == pytest.approx(
      loss.sum(), rel=1e-4)


def test_padding_is_never_counted_and_has_no_vote(evaluation):
  batch = _varied()
  real = 6
  padded = dict(batch, mask=(np.arange(16) < real).astype(np.float32))
  sums = evaluation(padded)
  for garbage in (0.0, 7.0):
    other = {k: v.copy() for k, v in padded.items()}
    other['image'][real:] = garbage
    other['label'][real:] = 0
    again = evaluation(other)
    for name in ('total', 'correct', 'loss', 'prompt_counts'):
      jax.tree.map(np.testing.assert_array_equal, again[name], sums[name])
  assert sums['total'] == real
  assert sums['prompt_counts'].sum() == real * 2
  first = {k: v[:real] for k, v in batch.items()}
  for vote, name in ((True, 'batch'), (False, 'per_sample')):
    logits = evaluation.logits(first, vote=vote).logits
    assert sums['correct'][name] == _right(logits, first['label'])


def test_top_five_by_hand():
  """Ranks 5 and 6 of six classes, a class that may not compete, padding."""
  row = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
  logits = jnp.array([row, row, [-jnp.inf, *row[1:]], row])
  batch = {'label': jnp.array([4, 5, 0, 0]),
           'mask': jnp.array([1.0, 1.0, 1.0, 0.0])}
  count = lambda n: int(eval_step.among_best(logits, batch, count=n))
  assert (count(5), count(6), count(4)) == (1, 2, 0)


def test_the_five_best_of_the_vote_are_scored(evaluation):
  batch = _varied()
  logits = np.asarray(evaluation.logits(batch, vote=True).logits)
  ranked = np.argsort(logits, axis=1)  # of six classes, the worst one first
  place = np.array([0, 1, 5, 0] * 4)
  batch['label'] = ranked[range(16), place].astype(np.int32)
  assert evaluation(batch)['correct']['top5'] == 8


@pytest.mark.parametrize('choice, arguments', [
    ('key', {'task_index'}), ('oracle', {'task_index', 'choice'}),
    ('random', {'task_index', 'choice', 'image_keys'})])
def test_only_the_oracle_is_told_the_task(choice, arguments):
  config = fakes.config(prompt_choice=choice, **{
      'prompt_pool_param.use_prompt_mask': True})
  batch = {**fakes.batch(4), 'index': np.arange(4)}
  found = eval_step.prompt_choice(config, batch, fakes.task_info(2))
  assert set(found) == arguments
  assert found['task_index'] == (2 if choice == 'oracle' else -1)
  assert eval_step.votes_at_test(config, fakes.tiny_model(config)[0]) == (
      choice == 'key')


def test_another_domain_s_column_of_the_class_is_right():
  """Two domains of three classes; the best columns stand for 1, 1, 2."""
  logits = jnp.array([[0, 9, 0, 0, 8, 0], [0, 8, 0, 0, 9, 0],
                      [0, 9, 0, 0, 0, 9.5], [0, 9, 0, 0, 0, 0]], jnp.float32)
  batch = {'label': jnp.array([4, 4, 1, 1]), 'mask': jnp.array([1., 1, 1, 0])}
  assert eval_step.right_in_any_domain(logits, batch, num_domains=2) == 2
  assert eval_step.score(logits, batch)[0] == 1
