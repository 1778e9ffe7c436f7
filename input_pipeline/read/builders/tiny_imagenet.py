# SPDX-License-Identifier: Apache-2.0
"""TFDS builder of TinyImageNet: 200 classes of ImageNet at 64 x 64 pixels.

Le and Yang, "Tiny ImageNet Visual Recognition Challenge", 2015.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import pathlib
import re
import zipfile

import tensorflow_datasets as tfds

from promptcl.input_pipeline.read import archives
from promptcl.input_pipeline.read.builders import pictures

_NUM_CLASSES = 200
_ROOT = 'tiny-imagenet-200'
_TRAIN = re.compile(_ROOT + r'/train/(n\d+)/images/[^/]+\.JPEG')


class TinyImagenet(pictures.PictureBuilder):
  """TinyImageNet; its labelled validation pictures are the test set.

  Classes are in the order of their WordNet ids, as folders are; the pictures
  of the challenge's own test have no labels and are left out.
  """

  name = 'tinyimagenet'
  # The MD5 is that of several public loaders.
  ARCHIVE = archives.Archive(
      url='http://cs231n.stanford.edu/tiny-imagenet-200.zip',
      filename='tiny-imagenet-200.zip',
      page='http://cs231n.stanford.edu/reports.html',
      checksum='md5:90528d7ca1a48142e341f4ef8d21d0de')

  def _info(self) -> tfds.core.DatasetInfo:
    return self._picture_info(
        'Two hundred classes of ImageNet, squeezed to 64 x 64 pixels.',
        tfds.features.Image(shape=(64, 64, 3), encoding_format='jpeg'),
        tfds.features.ClassLabel(num_classes=_NUM_CLASSES))

  def _split_generators(self, dl_manager: tfds.download.DownloadManager
                        ) -> dict[str, Iterator[pictures.Example]]:
    path = self._fetch(dl_manager)
    with archives.open_zip(path, self.ARCHIVE) as file:
      ids = sorted(_lines(file, path, 'wnids.txt'))
      if len(ids) != _NUM_CLASSES:
        raise archives.ArchiveError(f'wnids.txt in {path} names {len(ids)} '
                                    f'classes instead of {_NUM_CLASSES}')
      words = dict(line.split('\t', 1) for line in
                   _lines(file, path, 'words.txt') if '\t' in line)
      train = _train_members(file.namelist())
      test = _test_members(file, path)
    self.info.features['label'].names = _class_names(ids, words)
    labels = {wnid: label for label, wnid in enumerate(ids)}
    _check_complete(path, labels, train=train, test=test)
    return {'train': self._examples(path, train, labels),
            'test': self._examples(path, test, labels)}

  def _examples(self, path: pathlib.Path, members: Sequence[tuple[str, str]],
                labels: Mapping[str, int]) -> Iterator[pictures.Example]:
    with archives.open_zip(path, self.ARCHIVE) as file:
      for name, wnid in members:
        encoded = file.read(name)
        if self._is_picture(name, encoded):
          yield name, {'image': encoded, 'label': labels[wnid]}


def _lines(file: zipfile.ZipFile, path: pathlib.Path, name: str) -> list[str]:
  try:
    text = file.read(f'{_ROOT}/{name}').decode()
  except KeyError as e:
    raise archives.ArchiveError(f'{path} has no {_ROOT}/{name}') from e
  return [line for line in text.splitlines() if line.strip()]


def _train_members(names: Iterable[str]) -> list[tuple[str, str]]:
  """Sorted (name, WordNet id)."""
  matches = filter(None, map(_TRAIN.fullmatch, sorted(names)))
  return [(match[0], match[1]) for match in matches]


def _test_members(file: zipfile.ZipFile, path: pathlib.Path
                  ) -> list[tuple[str, str]]:
  """(name, WordNet id) of the validation pictures, from their annotations."""
  names = set(file.namelist())
  members = []
  for line in _lines(file, path, 'val/val_annotations.txt'):
    picture, wnid, *_ = line.split('\t')
    name = f'{_ROOT}/val/images/{picture}'
    if name not in names:
      raise archives.ArchiveError(
          f'{path} has no {name}, which val_annotations.txt names')
    members.append((name, wnid))
  return members


def _class_names(ids: Sequence[str], words: Mapping[str, str]) -> list[str]:
  """First word of each class; with its id where two have the same."""
  first = [words.get(wnid, wnid).split(',')[0].strip() for wnid in ids]
  return [word if first.count(word) == 1 else f'{word} ({wnid})'
          for word, wnid in zip(first, ids, strict=True)]


def _check_complete(path: pathlib.Path, labels: Mapping[str, int],
                    **splits: Sequence[tuple[str, str]]) -> None:
  for split, members in splits.items():
    have = {wnid for _, wnid in members}
    if have != set(labels):
      wnid = min(have ^ set(labels))
      problem = 'has no' if wnid in labels else 'also has'
      raise archives.ArchiveError(
          f'{path} {problem} {split} pictures of {wnid}, going by wnids.txt')
