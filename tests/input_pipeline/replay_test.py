# SPDX-License-Identifier: Apache-2.0
"""Batches with replayed pictures: who, when, on which device, after a stop."""

import itertools

import numpy as np
import pytest

from promptcl import input_pipeline
from tests.input_pipeline import replays
from tests.input_pipeline.replays import TASKS


class TestBatches:

  def test_each_device_has_its_new_pictures_and_then_the_replayed(
      self, build_replay, build):
    stream = build_replay()
    plain = build(per_device_batch_size=2, seed=11)
    for task, batches in zip(plain.tasks, replays.play(stream), strict=True):
      for new, batch in zip(plain.batches(task), batches, strict=True):
        by_device = batch['image'].reshape(2, 5, *batch['image'].shape[1:])
        np.testing.assert_array_equal(
            by_device[:, :2].reshape(new['image'].shape), new['image'])
        np.testing.assert_array_equal(
            batch['label'].reshape(2, 5)[:, :2].reshape(-1), new['label'])
        replayed = batch['replayed'].reshape(2, 5)
        assert (replayed == [0, 0, 1, 1, 1]).all()

  def test_an_empty_store_gives_padding_of_the_same_shapes(self, build_replay):
    first, second, _ = replays.play(build_replay())
    for batch in first:
      replayed = batch['replayed'] > 0
      for key in ('mask', 'weight', 'image', 'label'):
        assert not batch[key][replayed].any()
      assert (batch['weight'][~replayed] == 1).all()
    assert all((batch['mask'] == 1).all() and (batch['weight'] == 1).all()
               for batch in second)
    shapes = [{k: (v.shape, v.dtype) for k, v in batch.items()}
              for batch in first + second]
    assert all(s == shapes[0] for s in shapes)
    assert shapes[0]['weight'] == ((10,), np.float32)

  def test_balanced_store_is_what_is_replayed(self, build_replay, arrays):
    stream = build_replay(**{'replay.capacity': 13})
    for task in stream.tasks:
      stored = set(stream.store.rows)
      assert len(stored) == [0, 10, 12][task.index]  # 13 // 4 = 3 of a class
      for batch in stream.batches(task):
        replayed = (batch['replayed'] * batch['mask']) > 0
        rows = replays.rows(batch)[replayed]
        assert set(rows) <= stored
        assert len(set(rows)) == len(rows)  # 6 of at least 10: none twice
        np.testing.assert_array_equal(
            batch['label'][replayed], arrays['train_labels'][rows])
      stream.end_task(task)
    assert len(stream.store) == 12

  def test_reservoir_holds_what_came_in_earlier_steps(self, build_replay):
    stream = build_replay(**{'replay.policy': 'reservoir',
                             'replay.capacity': 7})
    seen, drawn = [], set()
    for batches in replays.play(stream):
      for batch in batches:
        replayed, rows = batch['replayed'] > 0, replays.rows(batch)
        real = rows[replayed & (batch['mask'] > 0)]
        assert len(real) == (6 if seen else 0)
        assert set(real) <= set(seen)
        drawn |= set(real)
        seen += rows[~replayed].tolist()
    assert stream.store.seen == len(seen) == TASKS * 4 * 4
    assert len(stream.store) == 7 and set(stream.store.rows) <= set(seen)
    # Over twelve steps more came by than ever fit at once.
    assert len(drawn) > 7

  def test_a_small_store_repeats_itself_evenly(self, build_replay):
    stream = build_replay(**{'replay.capacity': 6})
    stream.end_task(stream.tasks[0])
    stream.end_task(stream.tasks[1])  # 4 classes, one picture each
    for batch in stream.batches(stream.tasks[2]):
      counts = np.unique(replays.rows(batch)[batch['replayed'] > 0],
                         return_counts=True)[1]
      assert sorted(counts) == [1, 1, 2, 2]

  def test_replayed_pictures_are_augmented_anew(self, build_replay, noise):
    options = {'dataset': noise, 'replay.capacity': 6, 'input_size': 30,
               'resize_size': 32}
    batches = sum(replays.play(build_replay(**options)), [])
    looks = [image.tobytes() for batch in batches
             for image in batch['image'][batch['mask'] > 0]]
    assert len(set(looks)) == len(looks) == 3 * 16 + 2 * 24
    threads = build_replay(data_threads=3, **options)
    replays.assert_equal(sum(replays.play(threads), []), batches)

  def test_masked_rows_see_the_classes_of_their_own_task(self, build_replay):
    stream = build_replay(**{'replay.masked': True})
    _, _, last = replays.play(stream)
    own = np.repeat(np.eye(TASKS, dtype=bool), 2, axis=1)
    for batch in last:
      np.testing.assert_array_equal(
          batch['class_mask'], own[batch['label'] // 2])

  def test_classes_that_come_again_and_again(self, build_replay):
    """Episodes overlap, but no picture is stored twice."""
    stream = build_replay(
        gaussian_schedule=True, gaussian_mode='paper', num_epochs=1, **{
            'continual.num_tasks': 12, 'continual.gaussian_steps': 2})
    seen = set()
    for batches in replays.play(stream, 12):
      old = [row for batch in batches for row in
             replays.rows(batch)[batch['replayed'] * batch['mask'] > 0]]
      assert set(old) <= seen and len(old) == (12 if seen else 0)
      seen |= {row for batch in batches for row in
               replays.rows(batch)[batch['replayed'] == 0]}
    rows, counts = stream.store.rows, np.bincount(stream.store.labels)
    assert len(set(rows)) == len(rows) <= 12 and counts.max() <= 12 // 5

  def test_weight_of_replayed_labels(self, build_replay):
    stream = build_replay(**{'replay.label_weight': 0.25})
    batch = replays.play(stream, 2)[1][0]
    np.testing.assert_array_equal(
        batch['weight'], np.where(batch['replayed'], .25, 1))


class TestHostsAndStops:

  @pytest.mark.parametrize('policy', ['class_balanced', 'reservoir'])
  def test_hosts_hold_the_same_store_and_share_each_batch(
      self, build_replay, policy):
    options = {'replay.policy': policy, 'replay.review_epochs': 1}
    whole = build_replay(**options)
    parts = [build_replay(process_index=i, process_count=2, **options)
             for i in range(2)]
    batches = [replays.play(s, review=True) for s in (whole, *parts)]
    for one, *two in zip(*(sum(b, []) for b in batches), strict=True):
      for key in one:
        np.testing.assert_array_equal(
            one[key], np.concatenate([part[key] for part in two]), key)
    for part in parts:
      np.testing.assert_array_equal(part.store.rows, whole.store.rows)

  @pytest.mark.parametrize('policy', ['class_balanced', 'reservoir'])
  def test_resumed_stream_goes_on_as_if_unbroken(self, build_replay, policy):
    options = {'replay.policy': policy, 'replay.review_epochs': 2}
    unbroken, stopped, resumed = (build_replay(**options) for _ in range(3))
    expected = replays.play(unbroken, review=True)
    replays.play(stopped, 2, review=True)
    saved = {**stopped.arrays(), 'loss': np.zeros(2)}
    resumed.restore(saved)
    resumed.end_task(resumed.tasks[1])  # is stored already
    task = resumed.tasks[2]
    replays.assert_equal(
        [*resumed.batches(task), *resumed.review_batches(task)], expected[2])
    for key, array in unbroken.arrays().items():
      np.testing.assert_array_equal(resumed.arrays()[key], array, key)

  def test_filling_the_store_does_not_disturb_threads_at_work(
      self, build_replay):
    options = {'replay.policy': 'reservoir', 'data_threads': 3}
    calm, hurried = build_replay(**options), build_replay(**options)
    expected = replays.play(calm, 2)[1]
    replays.play(hurried, 1)
    batches = hurried.batches(hurried.tasks[1])
    begun = list(itertools.islice(batches, 1))
    hurried.end_task(hurried.tasks[1])
    replays.assert_equal([*begun, *batches], expected)

  def test_pictures_come_from_the_store_not_the_data_set(
      self, build_replay, npz, arrays):
    before = build_replay()
    replays.play(before, 1)
    black = npz(train_images=np.zeros_like(arrays['train_images']))
    after = build_replay(dataset=black)
    after.restore(before.arrays())
    for batch in after.batches(after.tasks[1]):
      rows, replayed = replays.rows(batch), batch['replayed'] > 0
      assert set(rows[~replayed]) == {0}
      assert set(rows[replayed]) <= set(before.store.rows)
      assert len(set(rows[replayed])) == 6


class TestSettings:

  def test_without_capacity_everything_is_the_streams_own(
      self, build_replay, build):
    stream = build_replay(**{'replay.capacity': 0, 'replay.batch_size': 0})
    plain = build(per_device_batch_size=2, seed=11)
    stream.end_task(stream.tasks[0])
    replays.assert_equal(stream.batches(stream.tasks[1]),
                         plain.batches(plain.tasks[1]))
    assert stream.arrays() == {} and stream.num_classes == 6
    stream.restore({'loss': np.zeros(1)})
    assert len(stream.store) == 0

  def test_a_place_for_every_class(self, make_config):
    small = make_config(**{'replay.capacity': 5})
    with pytest.raises(ValueError, match='capacity 5 .*6 classes') as raised:
      input_pipeline.check_replay(small, num_classes=6)
    assert '\n' not in str(raised.value)
    input_pipeline.check_replay(small, num_classes=5)
    input_pipeline.check_replay(
        make_config(**{'replay.capacity': 5, 'replay.policy': 'reservoir'}), 6)

  @pytest.mark.parametrize('changes, words', [
      ({'replay.dark_weight': .5, 'replay.capacity': 0,
        'replay.batch_size': 0}, 'dark_weight 0.5 needs a store'),
      ({'replay.review_epochs': 1, 'replay.capacity': 0,
        'replay.batch_size': 0}, 'review_epochs 1 needs a store'),
      ({'replay.batch_size': 8}, 'batch_size 8 needs a store'),
      ({'replay.dark_weight': .5, 'replay.capacity': 9}, 'policy reservoir'),
      ({'replay.capacity': -1}, 'capacity is -1')])
  def test_what_cannot_work_is_refused(self, make_config, changes, words):
    with pytest.raises(ValueError, match=words) as raised:
      input_pipeline.check_replay(make_config(**changes))
    assert '\n' not in str(raised.value)
