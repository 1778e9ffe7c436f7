# SPDX-License-Identifier: Apache-2.0
"""Opening data sets: .npz files, and what is said when one does not open."""

import types

import numpy as np
import pytest

from promptcl.input_pipeline.read import datasets
from promptcl.input_pipeline.views import preprocess


def _load(name, **keys):
  config = {'dataset': name, 'data_dir': '', 'manual_dir': '',
            'split_files': ()}
  return datasets.load(types.SimpleNamespace(**config | keys))


class TestNpz:

  def test_contents(self, npz, arrays):
    dataset = _load(npz())
    assert (len(dataset.train), len(dataset.test)) == (30, 24)
    assert dataset.num_classes == 6
    assert dataset.class_names[2] == 'class 2'
    np.testing.assert_array_equal(dataset.test.labels, arrays['test_labels'])
    assert dataset.test.labels.dtype == np.int32
    np.testing.assert_array_equal(
        dataset.train.image(11), arrays['train_images'][11])

  def test_grey_is_repeated(self, npz, arrays):
    grey = np.random.default_rng(0).integers(0, 256, (30, 5, 4, 1), np.uint8)
    image = _load(npz(train_images=grey)).train.image(4)
    assert image.shape == (5, 4, 3)
    np.testing.assert_array_equal(image, np.broadcast_to(grey[4], (5, 4, 3)))

  def test_names_are_optional(self, npz):
    assert _load(npz(class_names=None)).class_names == tuple('012345')

  @pytest.mark.parametrize('channels', [1, 3])
  def test_statistics(self, npz, channels):
    images = np.random.default_rng(0).integers(
        0, 256, (30, 5, 4, channels), np.uint8)
    dataset = _load(npz(train_images=images))
    values = np.broadcast_to(images / 255, (30, 5, 4, 3)).reshape(-1, 3)
    np.testing.assert_allclose(dataset.mean, values.mean(0), rtol=1e-5)
    np.testing.assert_allclose(dataset.std, values.std(0), rtol=1e-5)

  def test_constant_channel_keeps_its_scale(self, npz):
    dataset = _load(npz())  # the third channel is 7 everywhere
    np.testing.assert_allclose(dataset.mean[2], 7 / 255, rtol=1e-5)
    assert dataset.std[2] == 1

  @pytest.mark.parametrize('changes, message', [
      ({'test_images': None, 'test_labels': None},
       'lacks test_images, test_labels'),
      ({'train_images': np.zeros((30, 5, 4, 3))},
       r'train_images .* uint8 .* is float64 \[30, 5, 4, 3\]'),
      ({'train_images': np.zeros((30, 5, 4), np.uint8)},
       r'train_images .* is uint8 \[30, 5, 4\]'),
      ({'test_images': np.zeros((24, 5, 4, 4), np.uint8)},
       r'test_images .* is uint8 \[24, 5, 4, 4\]'),
      ({'test_images': np.zeros((0, 5, 4, 3), np.uint8)}, 'not empty'),
      ({'train_labels': np.zeros(29, int)},
       r'train_labels .* \[30\].* is int64 \[29\]'),
      ({'train_labels': np.zeros(30)}, 'train_labels .* is float64'),
      ({'test_labels': np.full(24, 6)}, 'test_labels .* to 6, .* 0 to 5'),
      ({'train_labels': np.full(30, -1)}, 'train_labels .* from -1'),
      ({'class_names': np.array('a')}, 'class_names')])
  def test_bad_contents(self, npz, changes, message):
    with pytest.raises(ValueError, match=message) as error:
      _load(npz(**changes))
    assert '\n' not in str(error.value) and 'data.npz' in str(error.value)

  def test_no_file(self, tmp_path):
    with pytest.raises(FileNotFoundError, match='no file .*gone.npz'):
      _load(f'npz:{tmp_path}/gone.npz')

  def test_not_an_archive(self, tmp_path, npz):
    whole = (tmp_path / npz().rsplit('/', 1)[1]).read_bytes()
    broken = {'text': b'hello', 'empty': b'', 'cut': whole[:len(whole) // 2]}
    for name, content in broken.items():
      path = tmp_path / f'{name}.npz'
      path.write_bytes(content)
      with pytest.raises(ValueError, match=f'{name}.npz does not') as error:
        _load(f'npz:{path}')
      assert '\n' not in str(error.value)

  def test_pickles_are_refused(self, tmp_path, arrays):
    path = tmp_path / 'pickled.npz'
    np.savez(path, **arrays | {'class_names': np.array([{}], object)})
    with pytest.raises(ValueError, match='plain arrays'):
      _load(f'npz:{path}')

  def test_real_file(self, shared):
    dataset = _load(f'npz:{shared}/data/mnist.npz')
    assert (len(dataset.train), len(dataset.test)) == (1000, 400)
    assert dataset.train.image(0).shape == (28, 28, 3)
    # Of the whole data set: 0.1307 and 0.3081; this is a sample of it.
    np.testing.assert_allclose(dataset.mean, 0.1307, atol=0.01)
    np.testing.assert_allclose(dataset.std, 0.3081, atol=0.01)


def _domains(**changes):
  """Two domains, alternating; with some arrays replaced."""
  return {'train_domains': np.arange(30) % 2, 'test_domains': np.arange(24) % 2,
          'domain_names': np.array(['photo', 'sketch'])} | changes


class TestNpzWithDomains:

  def test_contents(self, npz):
    dataset = _load(npz(**_domains()))
    assert dataset.domain_names == ('photo', 'sketch')
    np.testing.assert_array_equal(dataset.train.domains, [0, 1] * 15)
    assert dataset.test.domains.dtype == np.int32

  def test_names_are_optional(self, npz):
    dataset = _load(npz(**_domains(domain_names=None)))
    assert dataset.domain_names == ('0', '1')

  def test_without_domains(self, npz):
    dataset = _load(npz())
    assert dataset.domain_names is None and dataset.train.domains is None

  @pytest.mark.parametrize('changes, message', [
      ({'test_domains': None}, 'lacks test_domains'),
      ({'train_domains': np.zeros(30)}, 'train_domains .* is float64'),
      ({'train_domains': np.zeros(29, int)}, r'train_domains .* \[30\]'),
      ({'test_domains': np.full(24, 2)}, r'test_domains .* 0 to 1 \(2 domains'),
      ({'domain_names': np.array('a')}, 'domain_names')])
  def test_bad_contents(self, npz, changes, message):
    with pytest.raises(ValueError, match=message) as error:
      _load(npz(**_domains(**changes)))
    assert '\n' not in str(error.value) and 'data.npz' in str(error.value)

  def test_real_file(self, shared):
    dataset = _load(f'npz:{shared}/data/pacs.npz')
    assert dataset.domain_names == (
        'art_painting', 'cartoon', 'photo', 'sketch')
    np.testing.assert_array_equal(np.bincount(dataset.train.domains), [70] * 4)
    np.testing.assert_array_equal(np.bincount(dataset.test.domains), [42] * 4)


@pytest.fixture
def pair(tmp_path, arrays):
  """Names of two .npz files: 6 classes in colour, 2 classes in grey."""
  np.savez(tmp_path / 'colour.npz', **arrays)
  rng = np.random.default_rng(3)
  grey = {f'{split}_images': rng.integers(0, 256, (count, 7, 7, 1), np.uint8)
          for split, count in (('train', 4), ('test', 2))}
  np.savez(tmp_path / 'grey.npz', **grey, train_labels=np.array([1, 0, 1, 0]),
           test_labels=np.array([0, 1]), class_names=np.array(['x', 'y']))
  return f'npz:{tmp_path}/colour.npz', f'npz:{tmp_path}/grey.npz'


class TestSequence:

  def test_labels_follow_on_each_other(self, pair, arrays):
    dataset = _load(','.join(pair))
    assert dataset.num_classes == 8
    assert dataset.groups == ((0, 1, 2, 3, 4, 5), (6, 7))
    assert dataset.class_names[5:] == ('colour/class 5', 'grey/x', 'grey/y')
    np.testing.assert_array_equal(
        dataset.train.labels, [*arrays['train_labels'], 7, 6, 7, 6])
    assert dataset.train.labels.dtype == np.int32
    assert dataset.domain_names is None and dataset.train.domains is None

  def test_images_are_those_of_the_members(self, pair):
    dataset = _load(f'{pair[0]}, {pair[1]}')
    second = _load(pair[1])
    assert (len(dataset.train), len(dataset.test)) == (34, 26)
    assert dataset.train.image(29).shape == (5, 4, 3)
    for row in range(4):
      np.testing.assert_array_equal(
          dataset.train.image(30 + row), second.train.image(row))
    np.testing.assert_array_equal(
        dataset.test.image(np.int64(25)), second.test.image(1))

  def test_order_is_as_written(self, pair):
    assert _load(','.join(pair[::-1])).groups == ((0, 1), (2, 3, 4, 5, 6, 7))

  def test_each_member_has_its_own_statistics(self, pair):
    mean, std = _load(','.join(pair)).statistics()
    assert mean.shape == std.shape == (8, 3)
    for rows, name in ((slice(0, 6), pair[0]), (slice(6, 8), pair[1])):
      alone = _load(name)
      np.testing.assert_array_equal(mean[rows], [alone.mean] * len(mean[rows]))
      np.testing.assert_array_equal(std[rows], [alone.std] * len(std[rows]))

  def test_images_are_normalised_by_their_own_statistics(self, pair, build):
    stream = build(dataset=','.join(pair), input_range='dataset',
                   global_batch_size=2, **{'continual.num_tasks': 4})
    batch = next(stream.eval_batches(stream.eval_sets[3]))
    grey = _load(pair[1])
    for image, label in zip(batch['image'], batch['label'], strict=True):
      raw = preprocess.eval_image(grey.test.image(label - 6), 8, 6) / 255
      np.testing.assert_allclose(
          image, (raw - grey.mean) / grey.std, rtol=1e-4, atol=1e-5)

  def test_5datasets(self):
    assert datasets.members('5datasets') == (
        'cifar10', 'mnist', 'svhn_cropped', 'notmnist', 'fashion_mnist')
    assert set(datasets.members('5datasets')) < set(datasets.SPECS)
    assert datasets.members('kmnist, 5datasets')[:2] == ('kmnist', 'cifar10')

  def test_real_files(self, shared):
    names = ('cifar10', 'mnist', 'svhn', 'notmnist', 'fashion_mnist')
    dataset = _load(','.join(f'npz:{shared}/data/{n}.npz' for n in names))
    assert dataset.num_classes == 50 and len(dataset.train) == 5000
    np.testing.assert_array_equal(np.bincount(dataset.test.labels), [40] * 50)
    shapes = {dataset.train.image(i * 1000).shape for i in range(5)}
    assert shapes == {(32, 32, 3), (28, 28, 3)}

  @pytest.mark.parametrize('name', ['', 'mnist,', 'mnist, mnist',
                                    'mnist,5datasets'])
  def test_bad_names(self, name):
    with pytest.raises(ValueError, match='every data set once'):
      _load(name)

  def test_a_missing_member_is_named(self, pair):
    with pytest.raises(ValueError, match="unknown data set 'mnits', have"):
      _load(f'{pair[0]},mnits')

  def test_split_files_need_a_folder(self, pair):
    with pytest.raises(ValueError, match='split_files .* has 0 of them'):
      _load(pair[0], split_files=('train.txt', 'test.txt'))


@pytest.mark.parametrize('name, message', [
    ('cifar1000', "unknown data set 'cifar1000', have .*digits.*npz:PATH"),
    ('CIFAR100', "'CIFAR100', have .*core50.*5datasets.*folder:PATH")])
def test_unknown_name(name, message):
  with pytest.raises(ValueError, match=message):
    _load(name)
