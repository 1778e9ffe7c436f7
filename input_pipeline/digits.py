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
"""TFDS builder of scikit-learn's handwritten digits: real, small, offline."""

import numpy as np
import tensorflow_datasets as tfds

_NUM_CLASSES = 10
_TEST_SHARE = 0.2
# The copy in scikit-learn has grey levels 0 to 16.
_GREY_LEVELS = 16


class Digits(tfds.core.GeneratorBasedBuilder):
  """1797 digits of 8 x 8 pixels, about 80 % train and 20 % test per class.

  Grey levels are spread over 0..255. Pictures stay 8 x 8; enlarging them is
  the pipeline's work. The division is drawn once from a fixed seed, class by
  class, and does not depend on any configuration.
  """

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'First version.'}

  def _info(self):
    return self.dataset_info_from_configs(
        description='Handwritten digits as they ship with scikit-learn.',
        homepage='https://scikit-learn.org/stable/datasets/toy_dataset.html',
        features=tfds.features.FeaturesDict({
            'image': tfds.features.Image(shape=(8, 8, 1)),
            'label': tfds.features.ClassLabel(num_classes=_NUM_CLASSES),
        }),
        supervised_keys=('image', 'label'))

  def _split_generators(self, dl_manager):
    from sklearn import datasets  # pylint: disable=g-import-not-at-top
    digits = datasets.load_digits()
    levels = np.rint(digits.images * (255 / _GREY_LEVELS)).astype(np.uint8)
    is_test = _draw_test(digits.target)
    return {split: _examples(levels, digits.target, np.flatnonzero(chosen))
            for split, chosen in (('train', ~is_test), ('test', is_test))}

  def _generate_examples(self):
    """Unused: `_split_generators` makes the generators itself."""


def _draw_test(labels):
  """A fifth of every class, as bool [N]."""
  rng = np.random.default_rng(0)
  is_test = np.zeros(labels.size, bool)
  for label in range(_NUM_CLASSES):
    rows = rng.permutation(np.flatnonzero(labels == label))
    is_test[rows[:round(_TEST_SHARE * rows.size)]] = True
  return is_test


def _examples(levels, labels, rows):
  for row in rows:
    yield int(row), {'image': levels[row][..., None],
                     'label': int(labels[row])}
