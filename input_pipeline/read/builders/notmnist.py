# SPDX-License-Identifier: Apache-2.0
"""TFDS builder of notMNIST (small): letters A to J in many fonts.

Bulatov, "notMNIST dataset", 2011: about 18.7 thousand pictures.
"""

from collections.abc import Mapping, Sequence
import re

import numpy as np
import tensorflow_datasets as tfds

from promptcl.input_pipeline.read import archives
from promptcl.input_pipeline.read.builders import pictures

_LETTERS = 'ABCDEFGHIJ'
_TEST_SHARE = 0.2
_MEMBER = re.compile(r'(?:\./)?notMNIST_small/([A-J])/[^/.][^/]*\.png')


class Notmnist(pictures.PictureBuilder):
  """notMNIST, 80 % for training and 20 % for the test of each letter.

  The published archive has no such division; it is drawn once from a fixed
  seed. Two of its files are known to be no picture.
  """

  ARCHIVE = archives.Archive(
      url='http://yaroslavvb.com/upload/notMNIST/notMNIST_small.tar.gz',
      filename='notMNIST_small.tar.gz',
      page='http://yaroslavvb.blogspot.com/2011/09/notmnist-dataset.html',
      size=8458043)

  def _info(self) -> tfds.core.DatasetInfo:
    return self._picture_info(
        'Letters A to J from publicly available fonts.',
        tfds.features.Image(shape=(28, 28, 1), encoding_format='png'),
        tfds.features.ClassLabel(names=list(_LETTERS)))

  def _split_generators(self, dl_manager: tfds.download.DownloadManager
                        ) -> dict[str, list[pictures.Example]]:
    path = self._fetch(dl_manager)
    letters = {letter: [] for letter in _LETTERS}
    with archives.open_tar(path, self.ARCHIVE) as files:
      for name, encoded in files:
        match = _MEMBER.fullmatch(name)
        if match and self._is_picture(name, encoded):
          letters[match[1]].append((name, encoded))
    empty = [letter for letter, pairs in letters.items() if not pairs]
    if empty:
      raise archives.ArchiveError(
          f'{path} has no pictures in notMNIST_small/{empty[0]}')
    return dict(zip(('train', 'test'), _divide(letters), strict=True))


def _divide(letters: Mapping[str, Sequence[tuple[str, bytes]]]
            ) -> tuple[list[pictures.Example], list[pictures.Example]]:
  """Two lists of examples out of {letter: [(name, bytes)]}."""
  rng = np.random.default_rng(0)
  train, test = [], []
  for label, letter in enumerate(_LETTERS):
    pairs = sorted(letters[letter])
    order = rng.permutation(len(pairs))
    num_test = round(_TEST_SHARE * len(pairs))
    for place, index in enumerate(order):
      name, encoded = pairs[index]
      part = test if place < num_test else train
      part.append((name, {'image': encoded, 'label': label}))
  return train, test
