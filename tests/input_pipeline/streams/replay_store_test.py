# SPDX-License-Identifier: Apache-2.0
"""What the store keeps: by hand, by statistics, and through a checkpoint."""

import numpy as np
import pytest

from promptcl.input_pipeline.streams import replay_store
from promptcl.input_pipeline.streams.replay_store import Offered
from promptcl.input_pipeline.streams.replay_store import Store


class Dice:
  """A generator whose draws are written down; checks what is asked of it."""

  def __init__(self, high, drawn):
    self._high, self._drawn = high, drawn

  def integers(self, low, high):
    assert low == 0
    np.testing.assert_array_equal(high, self._high)
    return np.array(self._drawn)


def _offered(rows, labels=None, task=0):
  rows = np.asarray(rows, np.int64)
  labels = rows % 10 if labels is None else labels
  return Offered(rows, np.asarray(labels, np.int32), task)


def _image(row):
  """Pictures of different sizes that tell which row they are."""
  return np.full((row % 3 + 1, 2 + row % 2, 3), row, np.uint8)


def _fill(policy, tasks, *, capacity, seed=0, read=_image):
  store = Store.empty()
  for offered in tasks:
    change = replay_store.changes(policy, store, offered, capacity=capacity,
                                  seed=seed)
    store = store.taking(change(len(offered.rows)), offered, read)
  return store


class TestReservoir:

  def test_algorithm_r_by_hand(self):
    # The third picture is number 2, the first that finds no free slot; number
    # n draws one of n + 1 slots, of which the first two exist.
    dice = Dice(high=[1, 2, 3, 4, 5], drawn=[0, 0, 1, 3, 0])
    slots = replay_store.reservoir_slots(dice, 5, seen=0, capacity=2)
    assert slots.tolist() == [0, 1, 1, -1, 0]
    # After 2, 3, 4, 5 pictures:
    takes = [replay_store.reservoir_take(slots[:n], 0).tolist()
             for n in range(6)]
    assert takes == [[], [0], [0, 1], [0, 2], [0, 2], [4, 2]]

  def test_goes_on_where_the_last_task_stopped(self):
    dice = Dice(high=[4, 5, 6], drawn=[2, 4, 1])
    slots = replay_store.reservoir_slots(dice, 3, seen=3, capacity=4)
    assert slots.tolist() == [3, -1, 1]
    # Three slots were in use: indices 0 to 2 are these, 3 to 5 the new ones.
    assert replay_store.reservoir_take(slots, 3).tolist() == [0, 5, 2, 3]

  def test_every_picture_is_kept_with_the_same_probability(self):
    kept = np.zeros(40)
    for seed in range(2000):
      tasks = [_offered(range(0, 25), task=0), _offered(range(25, 40), task=1)]
      store = _fill('reservoir', tasks, capacity=8, seed=seed, read=None)
      assert len(set(store.rows)) == 8 and store.seen == 40
      kept[store.rows] += 1
    # Binomial(2000, 0.2): mean 400, deviation 18.
    assert kept.min() > 400 - 80 and kept.max() < 400 + 80
    assert abs(kept[:25].sum() / 25 - 400) < 20

  def test_other_seed_other_store(self):
    stores = [_fill('reservoir', [_offered(range(50))], capacity=5, seed=s)
              for s in (1, 1, 2)]
    np.testing.assert_array_equal(stores[0].rows, stores[1].rows)
    assert stores[0].rows.tolist() != stores[2].rows.tolist()


class TestClassBalanced:

  def test_lowest_lots_of_each_class_by_hand(self):
    rows = np.array([4, 7, 5, 9, 4, 6])  # row 4 twice
    labels = np.array([1, 0, 1, 0, 1, 1])
    lots = np.array([.9, .3, .1, .2, .9, .5])
    take = replay_store.balanced_take(rows, labels, lots, quota=2)
    # Class 0: rows 9 (.2) and 7 (.3); class 1: rows 5 (.1) and 6 (.5).
    assert take.tolist() == [3, 1, 2, 5]
    take = replay_store.balanced_take(rows, labels, lots, quota=9)
    assert rows[take].tolist() == [9, 7, 5, 6, 4]

  def test_old_classes_shrink_and_keep_a_part_of_what_they_had(self):
    tasks = [_offered(range(t * 20, t * 20 + 20), [2 * t] * 10 + [2 * t + 1]
                      * 10, task=t) for t in range(3)]
    stores = [_fill('class_balanced', tasks[:n], capacity=14)
              for n in (1, 2, 3)]
    counts = [np.bincount(s.labels).tolist() for s in stores]
    # 14 // 2, 14 // 4, 14 // 6 of each class; the remainder stays free.
    assert counts == [[7] * 2, [3] * 4, [2] * 6]
    for store, later in zip(stores, stores[1:], strict=False):
      old = later.rows[later.tasks < later.tasks.max()]
      assert set(old) < set(store.rows)
    np.testing.assert_array_equal(stores[2].tasks, stores[2].labels // 2)

  def test_a_class_with_few_pictures_gives_all(self):
    store = _fill('class_balanced', [_offered(range(5), [0, 0, 0, 0, 1])],
                  capacity=6)
    assert np.bincount(store.labels).tolist() == [3, 1]

  def test_a_class_met_twice_is_an_even_sample_of_both_tasks(self):
    """As in a domain-incremental stream, and epochs repeat every picture."""
    kept = np.zeros(40)
    for seed in range(1000):
      tasks = [_offered(list(range(30)) * 2, [0] * 60, task=0),
               _offered(list(range(30, 40)) * 2, [0] * 20, task=1)]
      store = _fill('class_balanced', tasks, capacity=8, seed=seed, read=None)
      assert len(set(store.rows)) == 8
      kept[store.rows] += 1
    # Binomial(1000, 0.2): mean 200, deviation 13.
    assert kept.min() > 200 - 60 and kept.max() < 200 + 60
    assert abs(kept[30:].mean() - 200) < 20

  def test_nothing_enters_before_the_tasks_end(self):
    store = _fill('class_balanced', [_offered([3, 4])], capacity=20)
    offered = _offered([5, 6, 7], task=1)
    change = replay_store.changes('class_balanced', store, offered,
                                  capacity=20, seed=0)
    assert [len(change(n)) for n in range(4)] == [2, 2, 2, 5]


class TestStore:

  @pytest.mark.parametrize('policy', replay_store.POLICIES)
  def test_pictures_labels_and_tasks_belong_to_their_row(self, policy):
    tasks = [_offered(range(t, 60, 3), task=t) for t in range(3)]
    store = _fill(policy, tasks, capacity=17)
    assert 10 <= len(store) <= 17
    np.testing.assert_array_equal(store.labels, store.rows % 10)
    np.testing.assert_array_equal(store.tasks, store.rows % 3)
    for row, image in zip(store.rows, store.images, strict=True):
      np.testing.assert_array_equal(image, _image(row))

  def test_kept_pictures_are_not_read_again(self):
    store = _fill('reservoir', [_offered(range(9))], capacity=4)
    seen = []
    offered = _offered(range(9, 12), task=1)
    later = store.taking(np.array([0, 1, 6, 3]), offered,
                         lambda row: seen.append(row) or _image(row))
    assert seen == [11]
    assert later.images[3] is store.images[3]
    np.testing.assert_array_equal(
        later.rows, [store.rows[0], store.rows[1], 11, store.rows[3]])
    assert later.seen == 12
    # The earlier store is as it was.
    assert len(store) == 4 and store.seen == 9 and 11 not in store.rows

  @pytest.mark.parametrize('count', [0, 1, 9])
  def test_plain_arrays_bring_back_every_bit(self, count):
    store = _fill('reservoir', [_offered(range(count))], capacity=6)
    arrays = store.arrays()
    assert all(isinstance(x, np.ndarray) for x in arrays.values())
    back = Store.restored(arrays)
    for name in ('rows', 'labels', 'tasks'):
      mine, theirs = getattr(back, name), getattr(store, name)
      assert mine.dtype == theirs.dtype
      np.testing.assert_array_equal(mine, theirs)
    assert back.seen == store.seen == count and len(back) == min(count, 6)
    for mine, theirs in zip(back.images, store.images, strict=True):
      assert mine.dtype == np.uint8
      np.testing.assert_array_equal(mine, theirs)

  def test_a_thousand_cifar_pictures_are_three_megabytes(self):
    read = lambda row: np.zeros((32, 32, 3), np.uint8)
    store = _fill('reservoir', [_offered(range(3000))], capacity=1000,
                  read=read)
    assert sum(image.nbytes for image in store.images) == 1000 * 32 * 32 * 3
    assert sum(x.nbytes for x in store.arrays().values()) < 3.2e6
