# SPDX-License-Identifier: Apache-2.0
"""Pictures: worked by hand, and against what the original computed."""

import json

import numpy as np
import pytest
from scipy import stats

from promptcl.input_pipeline.views import preprocess

CASES = ('cifar_up', 'cifar_down', 'wide_down', 'tall_up', 'real_size')


def _picture(*shape, seed=0):
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def _row(*values):
  """A picture of one row, the same in three channels."""
  return np.repeat(np.uint8(values)[None, :, None], 3, axis=-1)


class TestResize:

  def test_enlarging_by_hand(self):
    # Centres of 4 pixels over 2: -0.25, 0.25, 0.75, 1.25; the fraction of
    # 25.25 and 75.75 is dropped, not rounded.
    out = preprocess.resize_uint8(_row(0, 101), 4)
    np.testing.assert_array_equal(out[2, :, 1], [0, 25, 75, 101])

  def test_shrinking_does_not_antialias(self):
    # Centres 0.5 and 2.5: only the two nearest pixels count.
    picture = np.repeat(_row(0, 100, 200, 40), 4, axis=0)
    out = preprocess.resize_uint8(picture, 2)
    np.testing.assert_array_equal(out[0, :, 0], [50, 120])

  @pytest.mark.parametrize('shape', [(9, 33, 3), (33, 9, 1), (1, 1, 3)])
  def test_window_is_the_crop_of_the_whole(self, shape):
    picture = _picture(*shape)
    whole = preprocess.resize_uint8(picture, 21)
    for top, left, height, width in [(0, 0, 21, 21), (3, 7, 5, 11),
                                     (20, 0, 1, 1)]:
      part = preprocess.resize_uint8(
          picture, 21, window=(top, left, height, width))
      np.testing.assert_array_equal(
          part, whole[top:top + height, left:left + width])

  def test_more_rows_than_one_block(self):
    # A horizontal ramp is the same in every row, wherever blocks begin.
    out = preprocess.resize_uint8(_row(0, 80, 160), 2 * preprocess.BLOCK + 3)
    assert (out == out[:1]).all() and out[0, 0, 0] == 0 and out[0, -1, 0] == 160

  def test_flip_mirrors(self):
    picture = _picture(8, 8, 3)
    box = (1, 2, 5, 6)
    plain = preprocess.crop_flip_resize(picture, box, False, 7)
    flipped = preprocess.crop_flip_resize(picture, box, True, 7)
    np.testing.assert_array_equal(flipped, plain[:, ::-1])
    assert (flipped != plain).any()

  def test_evaluation_cuts_the_centre(self):
    picture = _picture(12, 12, 3)
    out = preprocess.eval_image(picture, 12, 7)  # margin (12 - 7) // 2
    np.testing.assert_array_equal(out, picture[2:9, 2:9])


@pytest.mark.parametrize('case', CASES)
class TestOriginal:

  @pytest.fixture
  def arrays(self, shared, case):
    with np.load(shared / 'parity/official_l2p/preprocessing.npz') as file:
      meta = json.loads(str(file['meta']))['cases'][case]
      arrays = {key.removeprefix(f'{case}/'): file[key] for key in file
                if key.startswith(f'{case}/')}
    arrays['image'] = arrays['image'].astype(np.uint8)
    return arrays | meta

  def test_evaluation(self, arrays):
    out = preprocess.eval_image(
        arrays['image'], arrays['resize_size'], arrays['crop_size'])
    np.testing.assert_array_equal(out, arrays['eval_times_255'])

  def test_squeezed(self, arrays):
    out = preprocess.resize_uint8(arrays['image'], arrays['resize_size'])
    np.testing.assert_array_equal(out, arrays['resized_uint8'])

  def test_training(self, arrays):
    if not arrays.get('store_train', True):
      pytest.skip('the file holds no training images of this case')
    draws = zip(arrays['box'], arrays['flip'],
                arrays['train_image_without_jpeg'], arrays['train_image'],
                strict=True)
    for j, (box, flip, plain, after_jpeg) in enumerate(draws):
      out = preprocess.crop_flip_resize(
          arrays['resized_uint8'].astype(np.uint8), box, flip,
          arrays['crop_size'])
      np.testing.assert_allclose(out, plain, rtol=0, atol=1e-6)
      crop = arrays[f'crop_uint8_{j}'].astype(np.uint8)
      out = preprocess.crop_flip_resize(
          crop, (0, 0, *crop.shape[:2]), flip, arrays['crop_size'])
      np.testing.assert_allclose(out, after_jpeg, rtol=0, atol=1e-6)


class TestSampleBox:

  def _boxes(self, count, *size, **kwargs):
    rng = np.random.default_rng(0)
    return np.array(
        [preprocess.sample_box(rng, *size, **kwargs) for _ in range(count)])

  @pytest.mark.parametrize('height, width', [(256, 256), (36, 36), (8, 11)])
  def test_bounds(self, height, width):
    boxes = self._boxes(2000, height, width)
    top, left, h, w = boxes.T
    share = h * w / (height * width)
    assert share.min() >= 0.05 and share.max() <= 1
    assert (top >= 0).all() and (top + h <= height).all()
    assert (left >= 0).all() and (left + w <= width).all()
    # Whole pixels: a width is within half a pixel of what the ratio says.
    assert (w >= 0.75 * h - 0.5).all() and (w <= 4 / 3 * h + 0.5).all()
    assert len(np.unique(boxes, axis=0)) > 300

  def test_areas_are_those_of_the_original(self):
    # Percentiles from the parity notes, 6.26; a uniform area would have a
    # median of 0.53.
    _, _, h, w = self._boxes(5000, 256, 256).T
    percentiles = np.percentile(h * w / 256**2, [5, 25, 50, 75, 95])
    np.testing.assert_allclose(
        percentiles, [0.06, 0.16, 0.34, 0.57, 0.80], atol=0.025)

  def test_distribution(self, shared):
    with np.load(shared / 'parity/official_l2p/preprocessing.npz') as file:
      theirs = file['box_samples/square_256']
    ours = self._boxes(10_000, 256, 256)
    features = {
        'area': lambda b: b[:, 2] * b[:, 3],
        'aspect': lambda b: b[:, 3] / b[:, 2],
        'top': lambda b: b[:, 0],
        'left': lambda b: b[:, 1],
        'room above': lambda b: b[:, 0] / np.maximum(1, 256 - b[:, 2]),
        'room left': lambda b: b[:, 1] / np.maximum(1, 256 - b[:, 3])}
    for name, feature in features.items():
      p = stats.ks_2samp(feature(ours), feature(theirs)).pvalue
      assert p > 0.01, f'{name}: p = {p:.2g}'

  def test_whole_picture_when_no_box_fits(self):
    # A strip of 1 x 100 has no box of half its area and a ratio near 1.
    rng = np.random.default_rng(0)
    box = preprocess.sample_box(rng, 1, 100, area=(0.5, 1.0))
    assert box == (0, 0, 1, 100)


class TestTrainImage:
  SIZES = {'resize_size': 16, 'crop_size': 12}

  def _draws(self, picture, count, augmentation):
    return [preprocess.train_image(picture, np.random.default_rng(seed),
                                   augmentation=augmentation, **self.SIZES)
            for seed in range(count)]

  def test_is_crop_and_flip_of_the_squeezed_picture(self):
    picture = _picture(9, 10, 3)
    for seed in range(8):
      out = preprocess.train_image(
          picture, np.random.default_rng(seed), **self.SIZES)
      rng = np.random.default_rng(seed)
      box = preprocess.sample_box(rng, 16, 16)
      expected = preprocess.crop_flip_resize(
          preprocess.resize_uint8(picture, 16), box, rng.integers(2), 12)
      np.testing.assert_array_equal(out, expected)
      assert out.dtype == np.float32 and out.shape == (12, 12, 3)

  @pytest.mark.parametrize('augmentation, low, high', [
      ('crop_flip', 70, 130), ('crop', 0, 0)])
  def test_flips_half_the_time_or_never(self, augmentation, low, high):
    brighter_right = np.repeat(_row(*range(0, 250, 10)), 20, axis=0)
    draws = self._draws(brighter_right, 200, augmentation)
    flipped = sum(x[0, 0, 0] > x[0, -1, 0] for x in draws)
    assert low <= flipped <= high

  def test_none_is_the_evaluation_picture(self):
    picture = _picture(9, 10, 3)
    expected = preprocess.eval_image(picture, 16, 12) / np.float32(255)
    for out in self._draws(picture, 3, 'none'):
      np.testing.assert_array_equal(out, expected)


class TestNormalize:
  IMAGE = np.float32([[[0, 0.5, 1]]])

  @pytest.mark.parametrize('input_range, expected', [
      ('zero_one', [0, 0.5, 1]),
      ('minus_one_one', [-1, 0, 1]),
      ('imagenet', [-0.485 / 0.229, 0.044 / 0.224, 0.594 / 0.225]),
      ('clip', [-0.48145466 / 0.26862954, 0.0421725 / 0.26130258,
                0.59178927 / 0.27577711]),
      ('dataset', [-1, 0.5, 2.5])])
  def test_by_hand(self, input_range, expected):
    image = self.IMAGE.copy()
    out = preprocess.normalize(image, input_range, mean=(0.1, 0.4, 0.5),
                               std=(0.1, 0.2, 0.2))
    np.testing.assert_allclose(out[0, 0], expected, atol=1e-6)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(image, self.IMAGE)

  def test_several_pixels(self):
    image = np.random.default_rng(0).random((2, 4, 5, 3), np.float32)
    out = preprocess.normalize(image, 'imagenet')
    mean, std = np.float32(preprocess.MOMENTS['imagenet'])
    expected = (image - mean) / std
    np.testing.assert_array_equal(out, expected)

  def test_unknown_range(self):
    with pytest.raises(ValueError, match='unknown input_range .*imagenet'):
      preprocess.normalize(self.IMAGE, 'imagnet')
