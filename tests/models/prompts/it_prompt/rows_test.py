# SPDX-License-Identifier: Apache-2.0
"""Rows of IT-Prompt's phases: which, how often, and from any step on."""

import types

import jax
import numpy as np
import pytest

from promptcl.models.prompts.it_prompt import rows as it_rows


class _Found:
  """A probe that has found 5 embeddings of classes 2 and 3."""

  def features(self, state):
    del state
    return {'query': np.arange(10, dtype=np.float32).reshape(5, 2),
            'label': np.int32([2, 3, 2, 3, 3])}


def _stream():
  masks = [np.arange(4) // 2 == t for t in range(2)]
  return types.SimpleNamespace(tasks=[
      types.SimpleNamespace(index=t, class_mask=mask, num_examples=5)
      for t, mask in enumerate(masks)])


@pytest.mark.parametrize('task', [0, 1])
def test_rows_of_the_selector(task):
  config = types.SimpleNamespace(
      seed=0, it_prompt=types.SimpleNamespace(selector_batch=4))
  stream, schedule = _stream(), it_rows.Steps(2, 3)
  rows = lambda made: list(it_rows.selector_rows(
      config, stream, stream.tasks[task], schedule, made, _Found()))
  steps_ = rows(0)
  assert len(steps_) == schedule.num_steps == 6
  for first, second in zip(steps_[::2], steps_[1::2], strict=True):
    both = [np.concatenate([first[k], second[k]]) for k in (
        'vector', 'label', 'drawn', 'weight')]
    vector, label, drawn, weight = both
    own = (np.arange(16) % 8 < 4) & (weight > 0)
    order = np.argsort(vector[own, 0])  # every image once an epoch
    np.testing.assert_array_equal(vector[own][order].ravel(), np.arange(10))
    np.testing.assert_array_equal(label[own][order], [2, 3, 2, 3, 3])
    assert not drawn[own].any()
    assert drawn.sum() == 8 * task and set(label[drawn]) <= {0, 1}
    for step in first, second:
      assert step['weight'].mean() == pytest.approx(1)
      assert len(set(step['weight']) - {0}) == 1
    # 4 and 1 real ones, and 4 draws each where there is something to draw.
    assert [np.sum(s['weight'] > 0) for s in (first, second)] == [
        4 + 4 * task, 1 + 4 * task]
  assert np.any(steps_[0]['vector'] != steps_[2]['vector'])
  for made in range(6):
    jax.tree.map(np.testing.assert_array_equal, rows(made), steps_[made:])


def test_rows_of_the_alignment_are_balanced():
  config = types.SimpleNamespace(
      seed=0, it_prompt=types.SimpleNamespace(align_draws=6))
  stream, schedule = _stream(), it_rows.Steps(4, 2)
  rows = lambda made: [row['label'] for row in it_rows.alignment_rows(
      config, stream, stream.tasks[1], schedule, made, None)]
  every = rows(0)
  for epoch in every[:4], every[4:]:
    np.testing.assert_array_equal(np.bincount(np.concatenate(epoch)), [6] * 4)
  assert len({tuple(row) for row in every}) == 8
  for made in range(8):
    np.testing.assert_array_equal(rows(made), every[made:])
