# SPDX-License-Identifier: Apache-2.0
"""Evaluation batches: every image once, padding, values."""

import numpy as np
import pytest

from promptcl.input_pipeline.read import datasets
from promptcl.input_pipeline.views import preprocess


@pytest.mark.parametrize('hosts', [1, 2])
@pytest.mark.parametrize('batch', [2, 4, 6, 10])
def test_every_image_exactly_once(build, arrays, hosts, batch):
  seen = []
  for host in range(hosts):
    stream = build(global_batch_size=batch, process_index=host,
                   process_count=hosts)
    for eval_set in stream.eval_sets:
      batches = list(stream.eval_batches(eval_set))
      assert len(batches) == stream.num_eval_batches(eval_set)
      assert len(batches) == -(-8 // batch)
      for b in batches:
        assert b['mask'].shape == b['index'].shape == (batch // hosts,)
        assert b['mask'].dtype == np.float32 and b['index'].dtype == np.int32
        real = b['mask'] == 1
        rows = np.rint(b['image'][real, 0, 0, 0] * 255).astype(int)
        np.testing.assert_array_equal(
            eval_set.indices[b['index'][real]], rows)
        np.testing.assert_array_equal(
            arrays['test_labels'][rows], b['label'][real])
        seen.extend(rows)
        for key in b:  # padding is zero, all of it
          assert not b[key][~real].any()
  assert sorted(seen) == list(range(24))


def test_dropping_the_remainder(build):
  stream = build(global_batch_size=3, eval_drop_remainder=True)
  for eval_set in stream.eval_sets:
    batches = list(stream.eval_batches(eval_set))
    assert len(batches) == stream.num_eval_batches(eval_set) == 2
    assert all(batch['mask'].all() for batch in batches)
    rows = np.concatenate([b['image'][:, 0, 0, 0] for b in batches]) * 255
    np.testing.assert_allclose(rows, eval_set.indices[:6], atol=1e-4)


@pytest.mark.parametrize('setting, value', [
    ('zero_one', lambda x: x), ('minus_one_one', lambda x: 2 * x - 1)])
def test_values(build, npz, arrays, setting, value):
  images = np.random.default_rng(0).integers(0, 256, (24, 9, 9, 3), np.uint8)
  stream = build(dataset=npz(test_images=images), input_range=setting)
  eval_set = stream.eval_sets[1]
  batch = next(stream.eval_batches(eval_set))
  for place, row in enumerate(eval_set.indices[:4]):
    expected = preprocess.eval_image(images[row], 8, 6) / 255
    np.testing.assert_allclose(
        batch['image'][place], value(expected), atol=1e-6)


@pytest.mark.parametrize('norm_01', [True, False])
def test_automatic_range(build, arrays, norm_01):
  stream = build(norm_01=norm_01)
  image = next(stream.eval_batches(stream.eval_sets[0]))['image'][0, 0, 0]
  row = stream.eval_sets[0].indices[0]
  colour = arrays['test_images'][row, 0, 0] / 255
  if not norm_01:
    train = arrays['train_images'].reshape(-1, 3) / 255
    std = train.std(0)
    std[2] = 1  # a constant channel
    colour = (colour - train.mean(0)) / std
  np.testing.assert_allclose(image, colour, atol=1e-5)


@pytest.mark.parametrize('dropping', [True, False])
def test_clean_batches_hold_the_whole_task(
    build, noise, make_config, dropping):
  stream = build(dataset=noise, eval_drop_remainder=dropping)
  task = stream.tasks[1]
  source = datasets.load(make_config(dataset=noise)).train
  batches = list(stream.clean_batches(task))
  assert [int(b['mask'].sum()) for b in batches] == [4, 4, 2]
  images = np.concatenate([b['image'][b['mask'] == 1] for b in batches])
  for image, row in zip(images, task.train_indices, strict=True):
    expected = preprocess.eval_image(source.image(row), 8, 6)
    np.testing.assert_array_equal(image, preprocess.to_unit(expected))
