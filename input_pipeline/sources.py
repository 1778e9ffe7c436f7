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
"""Random access to the examples of one split: `len`, `image(i)`, `labels`."""

import functools

import cv2
import numpy as np

# The loader's threads each work on an image; OpenCV's would only fight them.
cv2.setNumThreads(0)

# Grey pictures get three channels; EXIF rotation is ignored, as TFDS does.
_DECODE = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
# Records read at a time when only their labels are wanted.
_LABEL_CHUNK = 8192


class ArraySource:
  """Examples that are already in memory.

  Attributes:
    labels: int32 [N].
  """

  def __init__(self, images, labels):
    """Takes uint8 [N, h, w, 1 or 3] and integer [N]."""
    self._images = images
    self.labels = labels.astype(np.int32)

  def __len__(self):
    return len(self._images)

  def image(self, index):
    """uint8 [h, w, 3]; one channel is repeated."""
    image = self._images[index]
    return image if image.shape[-1] == 3 else np.repeat(image, 3, axis=-1)


class TfdsSource:
  """One split of a prepared TFDS data set, decoded an image at a time."""

  def __init__(self, builder, split):
    """Takes a builder whose data are prepared as ArrayRecord files."""
    import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top
    self._name = f'{builder.info.full_name} {split}'
    self._records = builder.as_data_source(
        split, decoders={'image': tfds.decode.SkipDecoding()})

  def __len__(self):
    return len(self._records)

  def image(self, index):
    """uint8 [h, w, 3].

    Args:
      index: row of the split.

    Raises:
      ValueError: the stored picture does not decode.
    """
    encoded = self._records[index]['image']
    image = _decode(encoded)
    if image is None:
      raise ValueError(f'{self._name}: image {index} does not decode '
                       f'({len(encoded)} bytes); prepare the data set anew')
    return image

  @functools.cached_property
  def labels(self):
    """int32 [N], from one pass over the records without decoding images."""
    labels = np.empty(len(self), np.int32)
    for start in range(0, len(self), _LABEL_CHUNK):
      rows = range(start, min(start + _LABEL_CHUNK, len(self)))
      labels[rows.start:rows.stop] = [
          example['label'] for example in self._records.__getitems__(rows)]
    return labels


def _decode(encoded):
  """uint8 [h, w, 3] in RGB order, or None."""
  try:
    return cv2.imdecode(np.frombuffer(encoded, np.uint8), _DECODE)
  except cv2.error:  # for instance, nothing to decode
    return None
