# SPDX-License-Identifier: Apache-2.0
"""Mean and deviation of pictures, per channel.

From histograms: exact, and without a float copy of the pictures.
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
  from promptcl.input_pipeline.read.base import Source

# Pictures that are looked at where there are more: enough for two digits.
SAMPLE = 1000
Moments = tuple[np.ndarray, np.ndarray]  # mean and standard deviation


def of_array(images: np.ndarray) -> Moments:
  """Of all pictures, uint8 [N, h, w, 1 or 3].

  Returns:
    (mean, std): float32 [3] each, for values in [0, 1].
  """
  return _from_counts(_counts(images))


def of_source(source: 'Source', limit: int = SAMPLE) -> Moments:
  """Of at most `limit` evenly spaced pictures of a source.

  Args:
    source: see `base.Source`.
    limit: decoding all of a large data set takes minutes.

  Returns:
    (mean, std): float32 [3] each, for values in [0, 1].
  """
  count = min(limit, len(source))
  rows = np.linspace(0, len(source) - 1, count).round().astype(int)
  return _from_counts(sum(_counts(source.image(int(row))) for row in rows))


def _counts(images: np.ndarray) -> np.ndarray:
  """How often each level occurs, int [channels, 256]."""
  return np.stack([np.bincount(channel.ravel(), minlength=256)
                   for channel in np.moveaxis(images, -1, 0)])


def _from_counts(counts: np.ndarray) -> Moments:
  share = counts / counts.sum(axis=1, keepdims=True)
  levels = np.arange(256) / 255
  mean = share @ levels
  # Rounding may leave the variance of one single level below zero.
  std = np.sqrt(np.maximum(share @ levels**2 - mean**2, 0))
  # A constant channel carries nothing; leave its scale alone.
  std[std < 1e-6] = 1
  return tuple(np.broadcast_to(np.float32(x), 3) for x in (mean, std))
