# Copyright 2026 The JAX Continual Prompting Authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Stored pictures -> arrays."""

import types

import cv2
import numpy as np
import pytest

from input_pipeline import sources


def _source(*encoded):
  """A source over given bytes; only the TFDS files are left out."""
  records = [{'image': e, 'label': 0} for e in encoded]
  builder = types.SimpleNamespace(
      info=types.SimpleNamespace(full_name='things/1.0.0'),
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
