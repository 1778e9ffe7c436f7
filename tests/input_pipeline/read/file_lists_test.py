# SPDX-License-Identifier: Apache-2.0
"""Divisions by lists of files."""

import collections
import pathlib
import types

import pytest

from promptcl.input_pipeline.read import datasets


def _load(root, split_files=()):
  return datasets.load(types.SimpleNamespace(
      dataset=f'folder:{root}', data_dir='', manual_dir='',
      split_files=split_files))


def _files(source):
  """{(class folder, file name)}; the paths are the source's own business."""
  # pylint: disable-next=protected-access
  return {tuple(pathlib.Path(path).parts[-2:]) for path in source._paths}


class TestSplitFiles:

  def _lists(self, folder, train, test):
    paths = folder / 'train.txt', folder / 'test.txt'
    for path, lines in zip(paths, (train, test), strict=True):
      path.write_text(''.join(f'{line}\n' for line in lines))
    return tuple(map(str, paths))

  def test_plain_lists(self, plain, tmp_path):
    lists = self._lists(
        tmp_path, ['# ours', 'b/1.jpg', '', 'a/3.jpg', 'a/0.jpg'],
        ['a/1.jpg', 'b/0.jpg'])
    dataset = _load(plain, lists)
    assert dataset.class_names == ('a', 'b')
    assert _files(dataset.train) == {('a', '0.jpg'), ('a', '3.jpg'),
                                     ('b', '1.jpg')}
    assert dataset.test.labels.tolist() == [0, 1]
    assert abs(int(dataset.train.image(1)[0, 0, 0]) - 30) < 3

  def test_lists_with_numbers_and_domains(self, pets, tmp_path):
    """The form of DomainNet's own lists."""
    lists = self._lists(
        tmp_path, ['photo/cat/0.png 0', 'sketch/dog/1.png 1',
                   'photo/dog/0.png 1', 'sketch/cat/0.png 0'],
        ['photo/dog/2.png 1', 'sketch/dog/0.png 1', 'photo/cat/1.png 0'])
    dataset = _load(pets / 'train', lists)
    assert dataset.domain_names == ('photo', 'sketch')
    assert dataset.train.domains.tolist() == [0, 0, 1, 1]
    assert dataset.test.labels.tolist() == [0, 1, 1]

  def test_yaml_layout_with_a_longer_path(self, plain, tmp_path):
    """The form of CODA-Prompt's lists."""
    train = ['data:', '- data/plain/a/0.jpg', "- 'data/plain/b/0.jpg'",
             'targets:', '- 0', '- 1']
    test = ['targets:', '- 1', '- 0', 'data:', '- data/plain/b/4.jpg',
            '- data/plain/a/9.jpg']
    dataset = _load(plain, self._lists(tmp_path, train, test))
    assert _files(dataset.train) == {('a', '0.jpg'), ('b', '0.jpg')}
    assert _files(dataset.test) == {('a', '9.jpg'), ('b', '4.jpg')}
    assert collections.Counter(dataset.test.labels.tolist()) == {0: 1, 1: 1}

  @pytest.mark.parametrize('train, test, error, message', [
      (['a/0.jpg', 'a/x.jpg', 'z/0.jpg'], ['a/1.jpg'], FileNotFoundError,
       'train.txt names 2 pictures .* the first is .*plain/a/x.jpg'),
      (['else/0.jpg'], ['a/1.jpg'], FileNotFoundError,
       'train.txt begins with else/0.jpg'),
      ([], ['a/1.jpg'], ValueError, 'train.txt names no pictures'),
      (['a/0.jpg', 'a/1.jpg'], ['a/1.jpg'], ValueError,
       '1 pictures are in both .*train.txt and .*test.txt'),
      (['a/0.jpg', 'a/0.jpg'], ['a/1.jpg'], ValueError, '1 pictures twice'),
      (['a/0.jpg', '0.jpg'], ['a/1.jpg'], ValueError,
       'names 0.jpg, which does not end in CLASS/FILE'),
      (['a/0.jpg', '../0.jpg'], ['a/1.jpg'], ValueError, 'names ../0.jpg'),
      (['a/0.jpg', 'b/0.jpg'], ['a/1.jpg'], ValueError,
       "of the class 'b' in .*train.txt, but none in .*test.txt")])
  def test_refused(self, plain, tmp_path, train, test, error, message):
    lists = self._lists(tmp_path, train, test)
    with pytest.raises(error, match=message) as caught:
      _load(plain, lists)
    assert '\n' not in str(caught.value)

  def test_missing_list(self, plain, tmp_path):
    with pytest.raises(FileNotFoundError, match='no file .*gone.txt'):
      _load(plain, (str(tmp_path / 'gone.txt'),) * 2)

  def test_one_list(self, plain):
    with pytest.raises(ValueError, match='must be two lists'):
      _load(plain, ('train.txt',))
