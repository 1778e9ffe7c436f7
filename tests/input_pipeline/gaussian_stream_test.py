# SPDX-License-Identifier: Apache-2.0
"""Gaussian streams on tiny data: episodes, their images, their steps."""

import numpy as np
import pytest

SMALL = {'gaussian_schedule': True, 'continual.num_tasks': 23}
PAPER = {'gaussian_schedule': True, 'gaussian_mode': 'paper', 'num_epochs': 1,
         'continual.num_tasks': 12, 'continual.gaussian_steps': 20}


def _rows(batches):
  return [row for batch in batches for row in
          np.rint(batch['image'][:, 0, 0, 0] * 255).astype(int)]


class TestReleasedMode:

  def test_every_epoch_passes_over_all_admitted_images(self, build, arrays):
    stream = build(**SMALL, global_batch_size=5, num_epochs=3)
    for task in stream.tasks[::5]:
      n = 5 * len(task.classes)
      assert stream.schedule(task).num_steps == 3 * len(task.classes)
      expected = np.flatnonzero(
          np.isin(arrays['train_labels'], task.classes)).tolist()
      rows = _rows(stream.batches(task))
      for epoch in range(3):
        assert sorted(rows[epoch * n:(epoch + 1) * n]) == expected

  def test_labels_are_columns_of_the_order(self, build):
    stream = build(**SMALL, **{'continual.rand_seed': 3})
    order = np.random.default_rng(3).permutation(6)
    plain = build(**SMALL)
    for task, same in zip(stream.tasks, plain.tasks, strict=True):
      # The schedule speaks of columns: other labels come and go instead.
      np.testing.assert_array_equal(task.class_mask, same.class_mask)
      assert task.classes == tuple(order[task.class_mask])
    for batch in stream.batches(stream.tasks[0]):
      labels = np.rint(batch['image'][:, 0, 0, 1] * 255).astype(int)
      np.testing.assert_array_equal(order[batch['label']], labels)

  def test_reversed_runs_through_the_classes_backwards(self, build):
    order = build(**SMALL, reverse_task=True).class_order
    assert order.tolist() == [5, 4, 3, 2, 1, 0]

  def test_the_last_task_is_evaluated_too(self, build):
    stream = build(**SMALL)
    assert [t.index + 1 for t in stream.tasks if t.eval_sets] == [10, 20, 23]
    stream = build(**SMALL, **{'continual.eval_every_tasks': 7})
    assert [t.index + 1 for t in stream.tasks if t.eval_sets] == [7, 14, 21, 23]

  def test_joint_is_all_images_once(self, build):
    joint = build(**SMALL).joint()
    np.testing.assert_array_equal(joint.tasks[0].train_indices, range(30))
    assert joint.tasks[0].eval_sets == (0,) and len(joint.eval_sets) == 1

  def test_a_class_without_images(self, build):
    """One image of thirty is left: an episode without its class is empty."""
    with pytest.raises(ValueError, match='episode .* has no train images'):
      build(**PAPER, subsample_rate=3)


class TestPaperMode:

  @pytest.mark.parametrize('batch', [4, 5, 30])
  def test_a_fixed_number_of_steps(self, build, batch):
    stream = build(**PAPER, global_batch_size=batch)
    assert {stream.schedule(t).num_steps for t in stream.tasks} == {20}
    assert stream.schedule(stream.tasks[0]).steps_per_epoch == 20
    assert len(list(stream.batches(stream.tasks[2]))) == 20

  def test_nothing_comes_twice_before_everything_came_once(self, build):
    stream = build(**PAPER)
    for task in stream.tasks[::3]:
      n, rows = task.num_examples, _rows(stream.batches(task))
      assert len(rows) == 80
      assert rows == stream.train_rows(task).tolist()
      for start in range(0, 80 - n + 1, n):
        assert sorted(rows[start:start + n]) == sorted(task.train_indices)
      rest = rows[80 // n * n:]
      assert len(set(rest)) == len(rest)

  def test_few_steps_draw_without_replacement(self, build):
    settings = {**PAPER, 'continual.gaussian_steps': 1,
                'continual.num_tasks': 240}
    stream = build(**settings, global_batch_size=3)
    draws = [_rows(stream.batches(t)) for t in stream.tasks[:20]]
    assert all(len(set(rows)) == 3 for rows in draws)
    again = build(**settings, global_batch_size=3)
    assert draws[:5] == [_rows(again.batches(t)) for t in again.tasks[:5]]

  def test_resume_and_hosts(self, build, noise):
    whole = build(dataset=noise, **PAPER)
    task = whole.tasks[5]
    unbroken = list(whole.batches(task))
    resumed = list(whole.batches(task, start_step=13))
    parts = [build(dataset=noise, process_index=i, process_count=2, **PAPER)
             for i in range(2)]
    shares = list(zip(*(p.batches(p.tasks[5]) for p in parts), strict=True))
    assert len(resumed) == 7 and len(shares) == 20
    for step in (13, 16, 19):
      for key in ('image', 'label'):
        expected = unbroken[step][key]
        np.testing.assert_array_equal(resumed[step - 13][key], expected)
        np.testing.assert_array_equal(
            np.concatenate([share[key] for share in shares[step]]), expected)

  def test_joint_goes_by_epochs(self, build):
    joint = build(**PAPER).joint()
    assert joint.schedule(joint.tasks[0]).num_steps == 7  # 30 // 4
