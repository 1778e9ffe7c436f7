# SPDX-License-Identifier: Apache-2.0
"""Pictures in folders: what is found, how it is divided, what is refused."""

import pathlib
import types

import numpy as np
import pytest

from promptcl.input_pipeline.read import datasets
from tests.input_pipeline.small_data import write_picture


def _load(root):
  return datasets.load(types.SimpleNamespace(
      dataset=f'folder:{root}', data_dir='', manual_dir='',
      split_files=()))


def _files(source):
  """{(class folder, file name)}; the paths are the source's own business."""
  # pylint: disable-next=protected-access
  return {tuple(pathlib.Path(path).parts[-2:]) for path in source._paths}


class TestLayouts:

  def test_train_and_test_with_domains(self, pets):
    dataset = _load(pets)
    assert dataset.class_names == ('cat', 'dog')
    assert dataset.domain_names == ('photo', 'sketch')
    assert dataset.train.domains.tolist() == [0] * 6 + [1] * 6
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1] * 2
    assert dataset.test.labels.tolist() == [0, 0, 1, 1] * 2
    assert [dataset.train.image(i)[0, 0, 0] for i in range(3)] == [0, 1, 2]
    assert dataset.mean is None

  def test_train_and_test_without_domains(self, pets):
    for split in ('train', 'test'):
      (pets / split / 'photo').rename(pets / f'only_{split}')
      for label in ('cat', 'dog'):
        (pets / f'only_{split}' / label).rename(pets / split / label)
      (pets / f'only_{split}').rmdir()
      for path in (pets / split / 'sketch').rglob('*.png'):
        path.unlink()
      for path in (pets / split / 'sketch').iterdir():
        path.rmdir()
      (pets / split / 'sketch').rmdir()
    dataset = _load(pets)
    assert dataset.domain_names is None and dataset.train.domains is None
    assert (len(dataset.train), len(dataset.test)) == (6, 4)

  def test_domains_without_train_and_test(self, pets):
    dataset = _load(pets / 'train')
    assert dataset.domain_names == ('photo', 'sketch')
    # One of three pictures of each class and domain.
    assert dataset.test.labels.tolist() == [0, 1, 0, 1]
    assert dataset.test.domains.tolist() == [0, 0, 1, 1]
    assert len(dataset.train) == 8

  def test_test_of_other_domains(self, pets):
    (pets / 'test/photo').rename(pets / 'test/painting')
    (pets / 'test/sketch').rename(pets / 'test/quickdraw')
    dataset = _load(pets)
    assert dataset.domain_names == ('painting', 'photo', 'quickdraw', 'sketch')
    assert set(dataset.train.domains) == {1, 3}
    assert set(dataset.test.domains) == {0, 2}

  def test_test_without_domains(self, pets):
    for label in ('cat', 'dog'):
      (pets / 'test/photo' / label).rename(pets / 'test' / label)
    for folder in ('photo', 'sketch/cat', 'sketch/dog', 'sketch'):
      for path in (pets / 'test' / folder).glob('*.png'):
        path.unlink()
      (pets / 'test' / folder).rmdir()
    dataset = _load(pets)
    assert dataset.test.domains is None and len(dataset.test) == 4
    assert dataset.domain_names == ('photo', 'sketch')

  def test_classes_called_train_and_test(self, tmp_path):
    for label in ('train', 'test', 'bus'):
      for i in range(5):
        write_picture(tmp_path / label / f'{i}.png')
    dataset = _load(tmp_path)
    assert dataset.class_names == ('bus', 'test', 'train')
    assert (len(dataset.train), len(dataset.test)) == (12, 3)

  def test_sizes_suffixes_and_grey(self, tmp_path):
    write_picture(tmp_path / 'a/0.JPG', shape=(8, 9))
    write_picture(tmp_path / 'a/1.jpeg', shape=(3, 4, 3))
    dataset = _load(tmp_path)
    shapes = {s.image(0).shape for s in (dataset.train, dataset.test)}
    assert shapes == {(8, 9, 3), (3, 4, 3)}

  def test_hidden_and_other_files_beside_classes_are_ignored(self, plain):
    (plain / 'README.txt').write_text('about')
    (plain / 'a/.thumbnail').write_text('')
    (plain / '.cache').mkdir()
    assert _load(plain).class_names == ('a', 'b', 'c')


class TestDivision:

  def test_a_fifth_of_every_class(self, plain):
    dataset = _load(plain)
    assert np.bincount(dataset.train.labels).tolist() == [8, 4, 1]
    assert np.bincount(dataset.test.labels).tolist() == [2, 1, 1]
    train, test = _files(dataset.train), _files(dataset.test)
    assert not train & test and len(train | test) == 17

  def test_is_always_the_same_and_not_the_first(self, plain):
    first, again = _load(plain), _load(plain)
    assert _files(first.test) == _files(again.test)
    assert _files(first.test) != {('a', '0.jpg'), ('a', '1.jpg'),
                                  ('b', '0.jpg'), ('c', '0.jpg')}

  def test_does_not_depend_on_other_classes(self, plain):
    before = _files(_load(plain).test)
    write_picture(plain / '0/x.png')
    write_picture(plain / '0/y.png')
    after = _files(_load(plain).test)
    assert {f for f in after if f[0] != '0'} == before


def _remove(path):
  for file in path.iterdir():
    file.unlink()
  path.rmdir()


class TestRefused:

  @pytest.mark.parametrize('change, message', [
      (lambda r: (r / 'train/photo/dog/notes.txt').write_text('x'),
       r'train/photo/dog/notes.txt in a class folder is no picture'),
      (lambda r: _remove(r / 'train/photo/dog'),
       "train/photo has no class folder 'dog', which .*train/sketch has"),
      (lambda r: [_remove(r / f'test/{d}/dog') for d in ('photo', 'sketch')],
       "pictures of the class 'dog' in train/, but none in test/"),
      (lambda r: [_remove(r / f'test/sketch/{c}') for c in ('cat', 'dog')],
       'test/sketch holds no class folders'),
      (lambda r: (r / 'test/sketch').rename(r.parent / 'away'),
       "pictures of the domain 'sketch' in train/, but none in test/"),
      (lambda r: (r / 'test').rename(r.parent / 'away'),
       'has train/ but no folder test/'),
      (lambda r: (r / 'train').rename(r.parent / 'away'),
       'has test/ but no folder train/'),
      (lambda r: (r / 'val').mkdir(), 'train/ and test/ and also val/'),
      (lambda r: (r / 'train/photo/dog/more').mkdir(),
       'train/photo/dog/more is a folder within a class folder'),
      (lambda r: write_picture(r / 'train/photo/0.png'),
       'train/photo/0.png lies outside a class folder'),
      (lambda r: write_picture(r / 'train/0.png'),
       'train/0.png lies outside a class folder'),
      (lambda r: [f.unlink() for f in (r / 'train/photo/dog').iterdir()],
       'train/photo/dog holds no pictures')])
  def test_layouts(self, pets, change, message):
    change(pets)
    with pytest.raises(ValueError, match=message) as error:
      _load(pets)
    assert '\n' not in str(error.value) and str(pets) in str(error.value)

  def test_no_folder(self, tmp_path):
    with pytest.raises(FileNotFoundError, match='no folder .*gone'):
      _load(tmp_path / 'gone')

  def test_nothing_in_it(self, tmp_path):
    with pytest.raises(ValueError, match='holds no class folders'):
      _load(tmp_path)

  def test_one_picture_cannot_be_divided(self, plain):
    write_picture(plain / 'd/0.png')
    with pytest.raises(ValueError, match='plain/d holds one picture'):
      _load(plain)

  def test_an_image_that_does_not_decode_is_named(self, plain):
    for path in (plain / 'a').iterdir():
      path.write_bytes(path.read_bytes()[:40])
    source = _load(plain).train
    with pytest.raises(ValueError, match=r'plain/a/\d.jpg does not decode'):
      source.image(0)
