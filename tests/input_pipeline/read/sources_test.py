# SPDX-License-Identifier: Apache-2.0
"""Stored pictures -> arrays."""

import types

import cv2
import numpy as np
from PIL import Image as pil_image
import pytest

from promptcl.input_pipeline.read import moments
from promptcl.input_pipeline.read import sources


def _source(*encoded):
  """A source over given bytes; only the TFDS files are left out."""
  records = [{'image': e, 'label': 0} for e in encoded]
  builder = types.SimpleNamespace(
      info=types.SimpleNamespace(full_name='things/1.0.0', features={}),
      as_data_source=lambda split, decoders: records)
  return sources.TfdsSource(builder, 'train')


def _png(image):
  return cv2.imencode('.png', image)[1].tobytes()


def test_colours_come_in_rgb_order():
  blue_green_red = np.full((2, 3, 3), (10, 20, 30), np.uint8)
  image = _source(_png(blue_green_red)).image(0)
  assert image.shape == (2, 3, 3)
  np.testing.assert_array_equal(image[1, 2], [30, 20, 10])


@pytest.mark.parametrize('content', [b'', b'no picture', None])
def test_broken_image_is_named(content):
  good = _png(np.zeros((40, 40, 3), np.uint8))
  content = good[:20] if content is None else content
  source = _source(good, content)
  assert source.image(0).shape == (40, 40, 3)
  with pytest.raises(ValueError, match='things/1.0.0 train: image 1 does'):
    source.image(1)


def test_file_source(tmp_path):
  paths = [str(tmp_path / f'{i}.png') for i in range(4)]
  for level, path in enumerate(paths[:2]):
    cv2.imwrite(path, np.full((2 + level, 5, 3), level, np.uint8))
  (tmp_path / '2.png').write_bytes(b'no picture')
  source = sources.FileSource(paths, [3, 1, 1, 2], [0, 0, 1, 1])
  assert len(source) == 4 and source.labels.dtype == np.int32
  assert source.domains.tolist() == [0, 0, 1, 1]
  np.testing.assert_array_equal(source.image(1), np.ones((3, 5, 3)))
  with pytest.raises(ValueError, match=r'2.png does not decode \(10 bytes\)'):
    source.image(2)
  with pytest.raises(FileNotFoundError, match='3.png has gone'):
    source.image(3)


def test_rotation_noted_in_a_file_is_ignored(tmp_path):
  """As TFDS does: the stored rows and columns are taken as they are."""
  image = pil_image.fromarray(np.zeros((4, 9, 3), np.uint8))
  exif = pil_image.Exif()
  exif[0x0112] = 6  # orientation: turned by 90 degrees
  image.save(tmp_path / 'turned.jpg', exif=exif)
  source = sources.FileSource([str(tmp_path / 'turned.jpg')], [0])
  assert source.image(0).shape == (4, 9, 3)


def test_relabelled_source():
  images = np.arange(3, dtype=np.uint8)[:, None, None, None]
  source = sources.ArraySource(images, np.array([40, 7, 40]))
  ours = sources.RelabelledSource(source, (7, 9, 40))
  assert ours.labels.tolist() == [2, 0, 2] and ours.labels.dtype == np.int32
  assert len(ours) == 3 and ours.image(1).tolist() == [[[1, 1, 1]]]
  strange = sources.RelabelledSource(source, (9, 40))
  with pytest.raises(ValueError, match='unexpected labels, such as 7'):
    _ = strange.labels


def test_members_of_a_joined_source_as_domains():
  parts = [sources.ArraySource(np.full((n, 1, 1, 3), n, np.uint8), np.arange(n))
           for n in (2, 3, 1)]
  source = sources.JoinedSource(parts, number_domains=True)
  assert source.labels.tolist() == [0, 1, 0, 1, 2, 0]
  assert source.domains.tolist() == [0, 0, 1, 1, 1, 2]
  assert [int(source.image(i)[0, 0, 0]) for i in range(6)] == [2, 2, 3, 3, 3, 1]


def test_statistics_of_a_source_are_those_of_evenly_spaced_images():
  levels = np.array([0, 50, 100, 150, 250], np.uint8)
  images = np.broadcast_to(levels[:, None, None, None], (5, 2, 3, 3))
  source = sources.ArraySource(images, np.zeros(5, int))
  mean, std = moments.of_source(source)
  np.testing.assert_allclose(mean, [110 / 255] * 3, rtol=1e-6)
  np.testing.assert_allclose(std, [levels.std() / 255] * 3, rtol=1e-6)
  mean, _ = moments.of_source(source, limit=2)  # the first and the last
  np.testing.assert_allclose(mean, [125 / 255] * 3, rtol=1e-6)
