# SPDX-License-Identifier: Apache-2.0

import numpy as np
import pytest
from sklearn import datasets as sklearn_datasets

from promptcl import input_pipeline
from promptcl.input_pipeline.read import digits


@pytest.fixture(name='dataset', scope='module')
def _dataset():
  return digits.load()


def _images(source):
  return np.stack([source.image(i) for i in range(len(source))])


def test_holds_all_digits_once(dataset):
  parts = [np.concatenate([_images(s)[..., 0].reshape(-1, 64),
                           s.labels[:, None]], axis=1)
           for s in (dataset.train, dataset.test)]
  original = sklearn_datasets.load_digits()
  levels = np.rint(original.data * 255 / 16)
  expected = np.concatenate([levels, original.target[:, None]], axis=1)
  ours = np.concatenate(parts)
  np.testing.assert_array_equal(
      ours[np.lexsort(ours.T)], expected[np.lexsort(expected.T)])
  assert len(ours) == 1797


def test_split_is_stratified(dataset):
  counts = [np.bincount(s.labels, minlength=10)
            for s in (dataset.train, dataset.test)]
  np.testing.assert_allclose(counts[1] / sum(counts), 0.2, atol=0.003)


def test_rows_come_as_tfds_would_store_them(dataset):
  from tensorflow_datasets.core import hashing  # pylint: disable=g-import-not-at-top
  original = sklearn_datasets.load_digits()
  levels = np.rint(original.images * 255 / 16).astype(np.uint8)
  for split in ('train', 'test'):
    source = getattr(dataset, split)
    row_of = {image.tobytes(): row for row, image in enumerate(levels)}
    hasher = hashing.Hasher(split)
    keys = [hasher.hash_key(row_of[image[..., 0].tobytes()])
            for image in _images(source)]
    assert keys == sorted(keys)


def test_grey_and_statistics(dataset):
  images = _images(dataset.train)
  assert images.shape[1:] == (8, 8, 3) and images.dtype == np.uint8
  assert (images == images[..., :1]).all() and images.max() == 255
  np.testing.assert_allclose(dataset.mean, (images / 255).mean(), atol=1e-4)
  np.testing.assert_allclose(dataset.std, (images / 255).std(), atol=1e-4)
  assert dataset.class_names == tuple('0123456789')


def test_stream(make_config):
  config = make_config(
      dataset='digits', input_size=32, resize_size=36, augmentation='crop',
      **{'continual.num_tasks': 5, 'continual.num_classes_per_task': 2})
  stream = input_pipeline.build(config, global_batch_size=16)
  batch = next(stream.batches(stream.tasks[4]))
  assert batch['image'].shape == (16, 32, 32, 3)
  assert set(batch['label']) == {8, 9}
  scored = [b['mask'].sum() for e in stream.eval_sets
            for b in stream.eval_batches(e)]
  assert sum(scored) == 359
