# SPDX-License-Identifier: Apache-2.0
"""TFDS builder of CORe50: 50 objects filmed in 11 sessions, 128 x 128 pixels.

Lomonaco and Maltoni, "CORe50: a New Dataset and Benchmark for Continuous
Object Recognition", 2017.
"""

from collections.abc import Iterable, Iterator, Sequence
import pathlib
import re

import tensorflow_datasets as tfds

from promptcl.input_pipeline.read import archives
from promptcl.input_pipeline.read.builders import pictures

TEST_SESSIONS = (3, 7, 10)
_NUM_SESSIONS = 11
# Object 1 is plug_adapter1, object 6 is mobile_phone1, and so on.
_KINDS = ('plug_adapter', 'mobile_phone', 'scissor', 'light_bulb', 'can',
          'glass', 'ball', 'marker', 'cup', 'remote_control')
_PER_KIND = 5
_MEMBER = re.compile(r'core50_128x128/s(\d+)/o(\d+)/C_\d+_\d+_\d+\.png')


class Core50(pictures.PictureBuilder):
  """CORe50 as its archive has it; the session is a feature, 'domain'.

  Sessions 3, 7 and 10 are the test set, the other eight are for training.
  """

  # The MD5 that Avalanche (ContinualAI, core50_data.py) verifies.
  ARCHIVE = archives.Archive(
      url=('http://bias.csr.unibo.it/maltoni/download/core50/'
           'core50_128x128.zip'),
      filename='core50_128x128.zip',
      page='https://vlomonaco.github.io/core50/',
      checksum='md5:745f3373fed08d69343f1058ee559e13')

  def _info(self) -> tfds.core.DatasetInfo:
    names = [f'{kind}{i + 1}' for kind in _KINDS for i in range(_PER_KIND)]
    sessions = [f's{i + 1}' for i in range(_NUM_SESSIONS)]
    return self._picture_info(
        'Fifty objects, each filmed in eleven sessions.',
        tfds.features.Image(shape=(128, 128, 3), encoding_format='png'),
        tfds.features.ClassLabel(names=names),
        domain=tfds.features.ClassLabel(names=sessions))

  def _split_generators(self, dl_manager: tfds.download.DownloadManager
                        ) -> dict[str, Iterator[pictures.Example]]:
    path = self._fetch(dl_manager)
    with archives.open_zip(path, self.ARCHIVE) as file:
      members = _members(file.namelist())
    _check_complete(members, path)
    return {split: self._examples(
        path, [m for m in members if (m[1] in TEST_SESSIONS) == is_test])
            for split, is_test in (('train', False), ('test', True))}

  def _examples(self, path: pathlib.Path,
                members: Sequence[tuple[str, int, int]]
                ) -> Iterator[pictures.Example]:
    with archives.open_zip(path, self.ARCHIVE) as file:
      for name, session, number in members:
        encoded = file.read(name)
        if self._is_picture(name, encoded):
          yield name, {'image': encoded, 'label': number - 1,
                       'domain': session - 1}


def _members(names: Iterable[str]) -> list[tuple[str, int, int]]:
  """Sorted (name, session, object) of the pictures, counted from 1."""
  matches = filter(None, map(_MEMBER.fullmatch, sorted(names)))
  return [(m[0], int(m[1]), int(m[2])) for m in matches]


def _check_complete(members: Sequence[tuple[str, int, int]], path: pathlib.Path
                    ) -> None:
  have = {(session, number) for _, session, number in members}
  want = {(session, number) for session in range(1, _NUM_SESSIONS + 1)
          for number in range(1, len(_KINDS) * _PER_KIND + 1)}
  for difference, verb in ((want - have, 'lacks'), (have - want, 'also has')):
    if difference:
      session, number = min(difference)
      raise archives.ArchiveError(
          f'{path} {verb} {len(difference)} of the folders '
          f'core50_128x128/sX/oY, the first is s{session}/o{number}; it is not '
          'the archive of all pictures in 128 x 128')
