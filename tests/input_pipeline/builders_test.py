# SPDX-License-Identifier: Apache-2.0
"""Builders of our own: what is in the data sets that they write."""

import numpy as np
import pytest

from promptcl.input_pipeline.read import archives
from tests.input_pipeline import small_data


class TestContents:

  def test_core50(self, by_hand):
    dataset = by_hand('core50', small_data.core50_files())
    assert dataset.num_classes == 50
    assert dataset.class_names[4:6] == ('plug_adapter5', 'mobile_phone1')
    assert dataset.domain_names[0] == 's1' and len(dataset.domain_names) == 11
    assert set(dataset.train.domains + 1) == {1, 2, 4, 5, 6, 8, 9, 11}
    assert set(dataset.test.domains + 1) == {3, 7, 10}
    assert (len(dataset.train), len(dataset.test)) == (8 * 51, 3 * 51)
    for source in (dataset.train, dataset.test):
      for row in range(0, len(source), 17):
        label, domain = source.labels[row], source.domains[row]
        level = 20 * (domain + 1) + (label + 1) // 10
        assert (source.image(row) == level).all()
    # Where nothing is known to be wrong, nothing is said.
    assert dataset.notes == ()

  def test_tiny_imagenet(self, by_hand):
    dataset = by_hand('tinyimagenet', small_data.tiny_files())
    assert (len(dataset.train), len(dataset.test)) == (600, 200)
    # The last of wnids.txt comes first: classes are sorted by WordNet id.
    assert dataset.class_names[:2] == ('word 199', 'word 198')
    assert dataset.class_names[-2:] == ('word 0 (n00000299)',
                                        'word 0 (n00000300)')
    for source, count in ((dataset.train, 3), (dataset.test, 1)):
      np.testing.assert_array_equal(np.bincount(source.labels), [count] * 200)
      for row in range(0, len(source), 29):
        level = 199 - int(source.labels[row])
        assert abs(int(source.image(row)[0, 0, 0]) - level) < 3

  def test_notmnist(self, by_hand):
    dataset = by_hand('notmnist', small_data.notmnist_files())
    assert dataset.class_names == tuple(small_data.LETTERS)
    np.testing.assert_array_equal(np.bincount(dataset.train.labels), [8] * 10)
    np.testing.assert_array_equal(np.bincount(dataset.test.labels), [2] * 10)
    levels = [(int(s.image(i)[0, 0, 0]), int(s.labels[i]))
              for s in (dataset.train, dataset.test) for i in range(len(s))]
    assert sorted(levels) == [(20 * label + i, label)
                              for label in range(10) for i in range(10)]
    note, = dataset.notes
    assert note.startswith('2 files that are no picture were left out: ')
    assert 'A/broken.png' in note and 'F/broken.png' in note

  def test_notmnist_is_always_divided_alike(self, by_hand, tmp_path):
    """The order of the files in the archive does not matter."""
    files = small_data.notmnist_files()
    levels = []
    for entries in (files, dict(reversed(files.items()))):
      dataset = by_hand('notmnist', entries)
      levels.append([sorted(int(s.image(i)[0, 0, 0]) for i in range(len(s)))
                     for s in (dataset.train, dataset.test)])
      (tmp_path / 'tfds').rename(tmp_path / f'tfds_{len(levels)}')
    assert levels[0] == levels[1]

  def test_no_picture_in_a_zip_is_left_out_and_named(self, by_hand):
    name = 'core50_128x128/s3/o9/C_03_09_001.png'
    files = small_data.core50_files()
    dataset = by_hand('core50', files | {name: b'no picture'})
    assert len(dataset.test) == 3 * 51
    assert dataset.notes == (
        f'1 files that are no picture were left out: {name}',)


@pytest.mark.parametrize('name, keep, message', [
    ('core50', lambda n: '/s3/o7/' not in n, 'lacks 1 of .* is s3/o7'),
    ('notmnist', lambda n: '/C/' not in n, 'no pictures in notMNIST_small/C'),
    ('tinyimagenet', lambda n: '/n00000150/' not in n,
     'has no train pictures of n00000150'),
    ('tinyimagenet', lambda n: 'val_9.JPEG' not in n,
     'has no .*val/images/val_9.JPEG'),
    ('tinyimagenet', lambda n: 'wnids' not in n, 'has no .*/wnids.txt')])
def test_missing_members(name, keep, message, by_hand):
  files = {n: c for n, c in small_data.MAKERS[name][0]().items() if keep(n)}
  with pytest.raises(archives.ArchiveError, match=message) as error:
    by_hand(name, files)
  assert '\n' not in str(error.value)
