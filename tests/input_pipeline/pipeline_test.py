# SPDX-License-Identifier: Apache-2.0
"""Batches: exact order, host shares, resume, padding, failures."""

import subprocess
import sys
import threading

import numpy as np
import pytest

from promptcl import input_pipeline
from promptcl.input_pipeline.read import datasets
from promptcl.input_pipeline.read import sources
from promptcl.input_pipeline.views import preprocess


def _rows(batches):
  """Which row of its split each picture of these batches is."""
  return [row for batch in batches for row in
          np.rint(batch['image'][:, 0, 0, 0] * 255).astype(int)]


def _assert_equal(batches, others):
  for batch, other in zip(batches, others, strict=True):
    assert batch.keys() == other.keys()
    for key in batch:
      np.testing.assert_array_equal(batch[key], other[key])


class TestSchedule:

  @pytest.mark.parametrize('epochs, batch, per_epoch', [
      (2, 4, 2),    # 20 // 4 = 5 batches, 2 whole ones per epoch
      (3, 4, 2),    # 30 // 4 = 7
      (2, 10, 1),
      (5, 7, 1)])   # 50 // 7 = 7
  def test_counts_by_hand(self, build, epochs, batch, per_epoch):
    stream = build(num_epochs=epochs, global_batch_size=batch)
    schedule = stream.schedule(stream.tasks[0])
    assert schedule == input_pipeline.Schedule(
        per_epoch, epochs, per_epoch * epochs)
    assert len(list(stream.batches(stream.tasks[0]))) == schedule.num_steps

  def test_tasks_of_unequal_length(self, build):
    stream = build(**{'continual.init_cls': 4, 'continual.inc_cls': 1})
    # 20, 5 and 5 images, twice, in steps of 4.
    assert [stream.schedule(task).num_steps for task in stream.tasks] == [
        10, 2, 2]


class TestTraining:

  def test_order_runs_across_epochs(self, build):
    stream = build(seed=9)
    for task in stream.tasks:
      order = np.concatenate([
          np.random.default_rng([9, task.index, epoch]).permutation(10)
          for epoch in range(2)])
      expected = task.train_indices[order[:16]]  # 4 batches of 4, 4 left over
      assert _rows(stream.batches(task)) == expected.tolist()
      np.testing.assert_array_equal(stream.train_rows(task), expected)

  def test_positions_can_be_read_in_any_order(self, build, noise):
    stream = build(dataset=noise)
    task = stream.tasks[1]
    batches, read = list(stream.batches(task)), stream.reader(task)
    for position in (15, 0, 6):  # of batches of 4
      example = read(position)
      for key in ('image', 'label'):
        np.testing.assert_array_equal(
            example[key], batches[position // 4][key][position % 4])

  def test_batch_contents(self, build):
    stream = build()
    batch = next(stream.batches(stream.tasks[1]))
    assert set(batch) == {'image', 'label'}
    assert batch['image'].shape == (4, 6, 6, 3)
    assert batch['image'].dtype == np.float32
    assert batch['label'].shape == (4,) and batch['label'].dtype == np.int32
    colours = np.rint(batch['image'] * 255).astype(int)
    np.testing.assert_array_equal(colours[:, 2, 3, 1], batch['label'])
    assert (colours[..., 2] == 7).all()

  @pytest.mark.parametrize('order', [
      {'continual.rand_seed': 5}, {'reverse_task': True}])
  def test_labels_are_head_columns(self, build, order):
    stream = build(**order)
    assert stream.class_names == tuple(
        f'class {label}' for label in stream.class_order)
    for task in stream.tasks:
      batches = [*stream.batches(task), *stream.clean_batches(task)]
      for batch in batches:
        real = batch.get('mask', np.ones(4)) == 1
        labels = np.rint(batch['image'][real, 0, 0, 1] * 255).astype(int)
        columns = batch['label'][real]
        np.testing.assert_array_equal(stream.class_order[columns], labels)
        assert task.class_mask[columns].all()

  @pytest.mark.parametrize('hosts', [2, 4])
  def test_hosts_share_the_same_global_batch(self, build, noise, hosts):
    whole = build(dataset=noise)
    parts = [build(dataset=noise, process_index=i, process_count=hosts)
             for i in range(hosts)]
    for task in whole.tasks:
      shares = zip(*(part.batches(task) for part in parts), strict=True)
      joined = ({key: np.concatenate([share[key] for share in step])
                 for key in step[0]} for step in shares)
      _assert_equal(joined, whole.batches(task))

  @pytest.mark.parametrize('start', [0, 1, 3, 4])
  def test_resume_continues_at_the_next_example(self, build, noise, start):
    stream = build(dataset=noise)
    task = stream.tasks[2]
    unbroken = list(stream.batches(task))
    _assert_equal(stream.batches(task, start_step=start), unbroken[start:])

  @pytest.mark.parametrize('threads', [0, 1, 4])
  def test_threads_do_not_matter(self, build, noise, threads):
    streams = [build(dataset=noise, data_threads=n) for n in (2, threads)]
    _assert_equal(*(stream.batches(stream.tasks[0]) for stream in streams))

  def test_augmentation_follows_seed_task_epoch_and_example(
      self, build, noise, make_config):
    """Each of the four changes the picture, and nothing else is needed."""
    stream = build(dataset=noise, num_epochs=4, global_batch_size=5)
    task = stream.tasks[0]
    images = np.concatenate([b['image'] for b in stream.batches(task)])
    rows = np.concatenate([
        task.train_indices[
            np.random.default_rng([42, 0, epoch]).permutation(10)]
        for epoch in range(4)])
    source = datasets.load(make_config(dataset=noise)).train
    for place in (0, 7, 13, 39):
      rng = np.random.default_rng([42, 0, place // 10, rows[place], 1])
      expected = preprocess.train_image(
          source.image(rows[place]), rng, resize_size=8, crop_size=6)
      np.testing.assert_array_equal(images[place], expected)
    of_first = images[rows == rows[0]]
    assert len(np.unique(of_first, axis=0)) == 4

  def test_seed_changes_order_and_pictures(self, build, noise):
    one, two = (
        np.concatenate([b['image'] for b in stream.batches(stream.tasks[0])])
        for stream in (build(dataset=noise, seed=seed) for seed in (0, 1)))
    assert not np.array_equal(one, two)

  def test_augmentation_setting(self, build, npz, arrays):
    ramp = np.broadcast_to(
        np.arange(0, 200, 50, dtype=np.uint8)[:, None], (30, 5, 4, 3))
    stream = build(dataset=npz(train_images=ramp), augmentation='crop')
    for batch in stream.batches(stream.tasks[0]):
      assert (batch['image'][:, 0, 0] <= batch['image'][:, 0, -1]).all()
    stream = build(dataset=npz(train_images=ramp), augmentation='none')
    clean = next(stream.clean_batches(stream.tasks[0]))['image'][0]
    for batch in stream.batches(stream.tasks[0]):
      assert (batch['image'] == clean).all()


class TestFailures:

  @pytest.mark.parametrize('changes, message', [
      ({'global_batch_size': 11}, 'batch of 11 is larger than task 1 .* 10 tr'),
      ({'global_batch_size': 9, 'eval_drop_remainder': True},
       'drops all 8 test images of task_1'),
      ({'global_batch_size': 3, 'process_count': 2}, '3 does not divide .* 2'),
      ({'input_size': 9}, 'input_size=9 .* resize_size=8'),
      ({'augmentation': 'flip'}, "unknown augmentation 'flip', have .*crop"),
      ({'input_range': 'unit'}, "unknown input_range 'unit', have .*auto"),
      ({'seed': -1}, 'seed=-1'),
      ({'num_epochs': 0}, 'num_epochs=0'),
      ({'subsample_rate': 101}, 'subsample_rate=101')])
  def test_one_line_before_any_work(self, build, changes, message):
    with pytest.raises(ValueError, match=message) as error:
      build(**changes)
    assert '\n' not in str(error.value)

  @pytest.mark.parametrize('threads', [0, 2])
  def test_a_bad_image_surfaces(self, build, monkeypatch, threads):
    read = sources.ArraySource.image

    def image(self, index):
      if index == stream.tasks[0].train_indices[3]:
        raise ValueError('image 3 does not decode')
      return read(self, index)

    stream = build(data_threads=threads)
    monkeypatch.setattr(sources.ArraySource, 'image', image)
    with pytest.raises(ValueError, match='image 3 does not decode'):
      list(stream.batches(stream.tasks[0]))

  def test_threads_end_with_the_iterator(self, build):
    stream = build()
    before = set(threading.enumerate())
    batches = stream.batches(stream.tasks[0])
    next(batches)
    del batches
    for thread in set(threading.enumerate()) - before:
      thread.join(timeout=10)
      assert not thread.is_alive()


def test_import_leaves_tensorflow_out():
  code = ('import sys; from promptcl import input_pipeline; '
          'print({"tensorflow", "tensorflow_datasets"} & set(sys.modules))')
  out = subprocess.run([sys.executable, '-c', code], capture_output=True,
                       text=True, check=True)
  assert out.stdout.strip() == 'set()'
