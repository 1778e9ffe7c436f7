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
"""Opening data sets: .npz files, and what is said when one does not open."""

import types

import numpy as np
import pytest

from input_pipeline import datasets


def _load(name, data_dir=''):
  return datasets.load(types.SimpleNamespace(dataset=name, data_dir=data_dir))


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


@pytest.mark.parametrize('name, message', [
    ('core50', 'not supported yet, have .*cifar100.*npz:PATH'),
    ('imagenet_r', 'not supported yet'),
    ('5datasets', 'not supported yet'),
    ('cifar1000', "unknown data set 'cifar1000', have .*digits")])
def test_unknown_name(name, message):
  with pytest.raises(ValueError, match=message):
    _load(name)
