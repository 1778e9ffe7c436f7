# SPDX-License-Identifier: Apache-2.0
"""Reviews of the store, and slots for stored logits."""

import numpy as np

from promptcl import input_pipeline
from tests.input_pipeline import replays


class TestReview:

  def test_passes_over_the_store_with_steps_of_their_own(self, build_replay):
    # 10 rows a step: the stores of 10, 20, 30 pictures take 1, 2, 3 steps.
    stream = build_replay(**{'replay.capacity': 30, 'replay.review_epochs': 2})
    for task in stream.tasks:
      t = task.index + 1
      schedule = input_pipeline.Schedule(t, 2, 2 * t)
      assert stream.review_schedule(task) == schedule
      train, review = next(stream.batches(task)), stream.review_batches(task)
      review = list(review)
      assert len(review) == 2 * t
      for part in (review[:t], review[t:]):
        rows = np.concatenate([replays.rows(batch) for batch in part])
        assert sorted(rows) == sorted(stream.store.rows)
      first, second = replays.rows(review[0]), replays.rows(review[t])
      assert first.tolist() != second.tolist()
      for batch in review:
        assert batch.keys() == train.keys()
        assert (batch['weight'] == 1).all() and (batch['replayed'] == 1).all()

  def test_a_store_smaller_than_a_batch_fills_one(self, build_replay):
    stream = build_replay(**{'replay.capacity': 6, 'replay.review_epochs': 1})
    batch, = stream.review_batches(stream.tasks[0])
    counts = np.unique(replays.rows(batch), return_counts=True)[1]
    assert sorted(counts) == [1, 1, 2, 2, 2, 2]


class TestStoredLogits:

  def test_slots_lead_from_a_new_picture_to_its_replays(self, build_replay):
    """A table written and read by `slot` always speaks of the right row."""
    stream = build_replay(num_epochs=3, **{
        'replay.policy': 'reservoir', 'replay.capacity': 6,
        'replay.dark_weight': .5})
    table, checked = np.full(7, -1), 0
    for batches in replays.play(stream):
      for batch in batches:
        rows, new = replays.rows(batch), batch['replayed'] == 0
        for i in np.flatnonzero((batch['mask'] > 0) & ~new):
          assert table[batch['slot'][i]] == rows[i]
          checked += 1
        entered = batch['slot'][new & (batch['slot'] < 6)]
        assert len(set(entered)) == len(entered)
        table[batch['slot'][new]] = rows[new]
    assert checked == (3 * 6 - 1) * 12  # 6 steps a task
    np.testing.assert_array_equal(table[:6], stream.store.rows)

  def test_distillation_and_labels_are_drawn_separately(self, build_replay):
    stream = build_replay(**{
        'replay.policy': 'reservoir', 'replay.dark_weight': .5})
    batches = replays.play(stream)[2]
    for batch in batches:
      dark = batch['dark'].reshape(2, 8)
      assert (dark == [0, 0, 1, 1, 1, 0, 0, 0]).all()
      assert (batch['weight'] == 1 - batch['replayed']).all()
    halves = [[replays.rows(b).reshape(2, 8)[:, part].tolist() for b in batches]
              for part in (slice(2, 5), slice(5, 8))]
    assert halves[0] != halves[1]

  def test_plain_der_draws_once(self, build_replay):
    stream = build_replay(**{'replay.policy': 'reservoir',
                             'replay.dark_weight': .5,
                             'replay.label_weight': 0.})
    batch = replays.play(stream, 1)[0][-1]
    assert (batch['dark'].reshape(2, 5) == [0, 0, 1, 1, 1]).all()
