# SPDX-License-Identifier: Apache-2.0
"""Tasks and evaluation sets of class- and data-set-incremental streams."""

import numpy as np
import pytest

from promptcl.input_pipeline.streams import task_stream
from tests.input_pipeline import small_data


class TestClassIncremental:

  @pytest.mark.parametrize('seed', [-1, 5])
  def test_indices_and_masks(self, build, arrays, seed):
    stream = build(**{'continual.rand_seed': seed})
    order = (np.arange(6) if seed < 0
             else np.random.default_rng(seed).permutation(6))
    np.testing.assert_array_equal(stream.class_order, order)
    pairs = zip(stream.tasks, stream.eval_sets, strict=True)
    for t, (task, eval_set) in enumerate(pairs):
      assert task.classes == tuple(order[2 * t:2 * t + 2])
      np.testing.assert_array_equal(
          np.flatnonzero(task.class_mask), [2 * t, 2 * t + 1])
      np.testing.assert_array_equal(eval_set.class_mask, task.class_mask)
      for rows, split, size in (
          (task.train_indices, 'train', 10), (eval_set.indices, 'test', 8)):
        labels = arrays[f'{split}_labels']
        expected = [i for i, c in enumerate(labels) if c in task.classes]
        np.testing.assert_array_equal(rows, expected)
        assert len(rows) == size
      assert (task.num_examples, eval_set.num_examples) == (10, 8)

  def test_each_task_is_followed_by_all_sets_so_far(self, build):
    stream = build()
    assert [t.eval_sets for t in stream.tasks] == [(0,), (0, 1), (0, 1, 2)]
    assert [t.index for t in stream.tasks] == [0, 1, 2]
    assert [e.index for e in stream.eval_sets] == [0, 1, 2]
    assert [e.name for e in stream.eval_sets] == ['task_1', 'task_2', 'task_3']

  def test_reversed(self, build):
    tasks = build(reverse_task=True).tasks
    assert [t.classes for t in tasks] == [(4, 5), (2, 3), (0, 1)]
    np.testing.assert_array_equal(np.flatnonzero(tasks[0].class_mask), [0, 1])

  def test_unequal_tasks(self, build):
    """Sizes 3, 2, 1 of six classes; `num_tasks` has no say."""
    stream = build(**{
        'continual.init_cls': 3, 'continual.inc_cls': 2,
        'continual.num_tasks': 9, 'continual.class_order': (5, 0, 4, 1, 3, 2)})
    assert [t.classes for t in stream.tasks] == [(5, 0, 4), (1, 3), (2,)]
    assert [t.num_examples for t in stream.tasks] == [15, 10, 5]
    masks = np.array([t.class_mask for t in stream.tasks])
    np.testing.assert_array_equal(masks.argmax(axis=1), [0, 3, 5])
    np.testing.assert_array_equal(masks.sum(axis=0), np.ones(6))
    for task, eval_set in zip(stream.tasks, stream.eval_sets, strict=True):
      np.testing.assert_array_equal(eval_set.class_mask, task.class_mask)
      for _, label, column in small_data.pictures(stream.batches(task)):
        assert stream.class_order[column] == label

  def test_subsample_takes_the_first_part(self, build):
    stream = build(subsample_rate=50)
    rows = np.concatenate([t.train_indices for t in stream.tasks])
    np.testing.assert_array_equal(np.sort(rows), range(15))  # of 30
    rows = np.concatenate([e.indices for e in stream.eval_sets])
    np.testing.assert_array_equal(np.sort(rows), range(12))  # of 24
    assert stream.label_counts['train'].sum() == 15
    assert stream.label_counts['test'].sum() == 12

  @pytest.mark.parametrize('rate, count, expected', [
      (-1, 7, 7), (100, 7, 7), (15, 50, 8), (25, 10, 2), (1, 40, 0)])
  def test_percent_rounds_as_tfds(self, rate, count, expected):
    assert task_stream.percent(rate, count) == expected

  def test_empty_task(self, build, npz, arrays):
    keep = arrays['test_labels'] < 4
    name = npz(test_images=arrays['test_images'][keep],
               test_labels=arrays['test_labels'][keep])
    with pytest.raises(ValueError, match='task 3 of .* has no test images'):
      build(dataset=name)


class TestDataSetIncremental:

  @pytest.fixture
  def sequence(self, tmp_path, arrays):
    """Two files: the classes 0 to 3, and 4 and 5 under the labels 0 and 1."""
    names = []
    for name, classes in (('big', range(4)), ('small', range(4, 6))):
      content = {'class_names': np.array([f'{name} {c}' for c in classes])}
      for split in ('train', 'test'):
        keep = np.isin(arrays[f'{split}_labels'], classes)
        content[f'{split}_images'] = arrays[f'{split}_images'][keep]
        content[f'{split}_labels'] = (
            arrays[f'{split}_labels'][keep] - classes[0])
      np.savez(tmp_path / f'{name}.npz', **content)
      names.append(f'npz:{tmp_path / name}.npz')
    return ','.join(names)

  @pytest.mark.parametrize('backwards', [False, True])
  def test_each_member_is_a_task(self, build, sequence, backwards):
    stream = build(dataset=sequence, reverse_task=backwards,
                   **{'continual.scenario': 'dataset'})
    groups = [(0, 1, 2, 3), (4, 5)][::-1 if backwards else 1]
    assert [t.classes for t in stream.tasks] == groups
    assert [t.eval_sets for t in stream.tasks] == [(0,), (0, 1)]
    assert stream.num_classes == 6
    for task, group in zip(stream.tasks, groups, strict=True):
      assert task.num_examples == 5 * len(group)
      found = small_data.pictures(stream.batches(task))
      assert {label for _, label, _ in found} == set(group)
      for _, label, column in found:
        assert stream.class_order[column] == label
        assert task.class_mask[column]

  def test_equal_members_also_divide_by_classes(self, build, sequence):
    """Without the scenario a sequence is one data set of six classes."""
    assert [t.classes for t in build(dataset=sequence).tasks] == [
        (0, 1), (2, 3), (4, 5)]


class TestEvaluation:

  @pytest.mark.parametrize('every, expected', [
      (0, [(0,), (0, 1), (0, 1, 2)]), (1, [(0,), (0, 1), (0, 1, 2)]),
      (2, [(), (0, 1), (0, 1, 2)]), (3, [(), (), (0, 1, 2)]),
      (9, [(), (), (0, 1, 2)])])
  def test_every_so_many_tasks_and_after_the_last(
      self, build, every, expected):
    stream = build(**{'continual.eval_every_tasks': every})
    assert [t.eval_sets for t in stream.tasks] == expected

  def test_shuffled_sets_hold_the_same_images(self, build):
    stored, shuffled, again, other = (
        build(eval_order=order, seed=seed) for order, seed in (
            ('stored', 1), ('shuffled', 1), ('shuffled', 1), ('shuffled', 2)))
    moved, orders = 0, set()
    for i, eval_set in enumerate(shuffled.eval_sets):
      rows = eval_set.indices
      moved += np.any(rows != stored.eval_sets[i].indices)
      np.testing.assert_array_equal(np.sort(rows), stored.eval_sets[i].indices)
      np.testing.assert_array_equal(rows, again.eval_sets[i].indices)
      assert rows.tolist() != other.eval_sets[i].indices.tolist()
      orders.add(tuple(np.argsort(rows)))
      seen = small_data.pictures(shuffled.eval_batches(eval_set))
      assert [row for row, _, _ in seen] == rows.tolist()
    assert moved == len(orders) == 3

  def test_one_pass_is_online(self, build):
    """With one epoch no training image comes twice."""
    stream = build(num_epochs=1)
    for task in stream.tasks:
      rows = [row for row, _, _ in small_data.pictures(stream.batches(task))]
      assert len(rows) == len(set(rows)) == 8  # of 10, in batches of 4


class TestJoint:

  def test_everything_is_one_task(self, build):
    stream = build(**{'continual.rand_seed': 4})
    joint = stream.joint()
    task, = joint.tasks
    np.testing.assert_array_equal(task.train_indices, range(30))
    assert task.class_mask.all() and task.eval_sets == (0, 1, 2)
    assert task.classes == tuple(stream.class_order)
    assert joint.eval_sets == stream.eval_sets
    np.testing.assert_array_equal(joint.class_order, stream.class_order)
    schedule = joint.schedule(task)
    assert schedule.num_steps == 14  # 60 images in batches of 4, 7 an epoch
    found = small_data.pictures(joint.batches(task))
    assert len(found) == 56
    assert all(joint.class_order[column] == label
               for _, label, column in found)

  def test_keeps_its_share_of_hosts_and_images(self, build):
    whole = build(subsample_rate=80).joint()
    parts = [build(subsample_rate=80, process_index=i, process_count=2).joint()
             for i in range(2)]
    assert whole.tasks[0].num_examples == 24
    rows = [small_data.pictures(s.batches(s.tasks[0])) for s in (*parts, whole)]
    first, second, both = (np.array(r).reshape(-1, n, 3)
                           for r, n in zip(rows, (2, 2, 4), strict=True))
    np.testing.assert_array_equal(
        np.concatenate([first, second], axis=1), both)

  def test_all_sets_are_scored_even_if_tasks_are_skipped(self, build):
    stream = build(**{'continual.eval_every_tasks': 2})
    assert stream.joint().tasks[0].eval_sets == (0, 1, 2)
