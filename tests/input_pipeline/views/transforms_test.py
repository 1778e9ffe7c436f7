# SPDX-License-Identifier: Apache-2.0
"""Transforms: boxes, filters, roundings and which code base has which."""

import numpy as np
import pytest
from scipy import stats

from promptcl import input_pipeline
from promptcl.input_pipeline.views import preprocess
from promptcl.input_pipeline.views import transforms
from tests.helpers import fakes

SIZES = {'resize_size': 16, 'crop_size': 12}
PORT = transforms.RULES['torch_port']


def _picture(height, width, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def _row(*values):
  """A picture of one row, grey."""
  return np.repeat(np.uint8(values)[None, :, None], 3, axis=2)


def _transform(name, augmentation='crop_flip'):
  return transforms.create(name, augmentation=augmentation, **SIZES)


@pytest.mark.parametrize('values, width, resample, expected', [
    # Half-pixel centres: a quarter and three quarters of the way.
    ([0, 100], 4, transforms.BILINEAR, [0, 25, 75, 100]),
    # Shrinking by 2 the triangle is 4 wide: weights 3/7, 3/7, 1/7.
    ([0, 0, 100, 100], 2, transforms.BILINEAR, [14, 86]),
    # Keys' cubic with a = -1/2, renormalised at the edge; below 0 is cut.
    ([0, 100], 4, transforms.BICUBIC, [0, 21, 79, 109]),
])
def test_filters_by_hand(values, width, resample, expected):
  out = transforms.resize(_row(*values), (1, width), resample)
  assert out.dtype == np.uint8
  np.testing.assert_array_equal(out[0, :, 0], expected)


@pytest.mark.parametrize('height, width, expected', [
    (480, 640, (256, 341)),  # 341.33
    (500, 375, (341, 256)),
    (300, 401, (256, 342)),  # 342.19
    (32, 32, (256, 256))])
def test_the_long_side_is_rounded_down(height, width, expected):
  assert transforms.short_side(height, width, 256) == expected


@pytest.mark.parametrize('width, first', [
    (341, 58), (227, 2), (225, 0), (224, 0), (343, 60)])
def test_half_a_pixel_goes_to_the_even_offset(width, first):
  columns = np.broadcast_to(np.arange(width)[None, :, None], (224, width, 3))
  assert transforms.cut_centre(columns, 224)[0, 0, 0] == first
  assert transforms.cut_centre(columns, 224).shape == (224, 224, 3)


class TestSampleBox:

  def _boxes(self, count, *size, rules=PORT):
    rng = np.random.default_rng(0)
    return np.array([
        transforms.sample_box(rng, *size, area=rules.area, aspect=rules.aspect)
        for _ in range(count)])

  def test_area_and_logarithm_of_the_ratio_are_uniform(self):
    # Small boxes, so that none is refused: refusals bend both.
    rules = transforms.Rules(area=(0.05, 0.4))
    _, _, h, w = self._boxes(4000, 1000, 1000, rules=rules).T
    share = (h * w / 1e6 - 0.05) / 0.35
    assert stats.kstest(share, 'uniform').pvalue > 0.01
    log_ratio = np.log(w / h) / np.log(4 / 3)
    assert stats.kstest(log_ratio, 'uniform', args=(-1, 2)).pvalue > 0.01

  @pytest.mark.parametrize('name, least', [('torch_port', 0.05),
                                           ('coda', 0.08)])
  def test_bounds(self, name, least):
    top, left, h, w = self._boxes(
        3000, 200, 240, rules=transforms.RULES[name]).T
    share = h * w / (200 * 240)
    assert least - 0.002 < share.min() < least + 0.01
    assert 0.97 < share.max() <= 1
    assert (top + h <= 200).all() and (left + w <= 240).all()
    assert (top >= 0).all() and (left >= 0).all()

  def test_every_offset_is_drawn_the_last_one_too(self):
    # 4 x 4 of 5 x 5 is the only box.
    rules = transforms.Rules(area=(0.64, 0.64), aspect=(1.0, 1.0))
    boxes = self._boxes(200, 5, 5, rules=rules)
    assert {tuple(box) for box in boxes} == {
        (i, j, 4, 4) for i in (0, 1) for j in (0, 1)}

  @pytest.mark.parametrize('height, width, expected', [
      (100, 10, (43, 0, 13, 10)),  # 10 / 0.75
      (10, 100, (0, 43, 10, 13)),  # 10 * 4/3
      (20, 20, (0, 0, 20, 20))])
  def test_centre_when_no_box_fits(self, height, width, expected):
    # Larger than the picture: never fits.
    rules = transforms.Rules(area=(9.0, 9.0))
    assert tuple(self._boxes(1, height, width, rules=rules)[0]) == expected


@pytest.mark.parametrize('name, resample', [
    ('torch_port', transforms.BILINEAR), ('clean', transforms.BICUBIC)])
def test_training_is_crop_resize_and_flip_in_that_order(name, resample):
  picture = _picture(40, 50)
  flips = set()
  for seed in range(6):
    out = _transform(name).train(picture, np.random.default_rng(seed))
    rng = np.random.default_rng(seed)
    top, left, h, w = transforms.sample_box(
        rng, 40, 50, area=PORT.area, aspect=PORT.aspect)
    flip = rng.random() < 0.5
    flips.add(flip)
    expected = transforms.resize(
        picture[top:top + h, left:left + w], (12, 12), resample)
    expected = expected[:, ::-1] if flip else expected
    np.testing.assert_array_equal(out, expected / np.float32(255))
    assert out.dtype == np.float32 and out.shape == (12, 12, 3)
  assert len(flips) == 2


@pytest.mark.parametrize('name, resample', [
    ('torch_port', transforms.BICUBIC), ('libcontinual', transforms.BICUBIC),
    ('coda', transforms.BILINEAR), ('clean', transforms.BICUBIC)])
def test_a_test_picture_keeps_its_aspect_ratio(name, resample):
  picture = _picture(40, 50)
  whole = transforms.resize(picture, (16, 20), resample)
  out = _transform(name).test(picture)
  np.testing.assert_array_equal(out, whole[2:14, 4:16] / np.float32(255))
  assert out.dtype == np.float32


def test_coda_enlarges_all_of_a_cifar_picture():
  picture = _picture(32, 32)
  coda, port = (_transform(name).test(picture) for name in ('coda',
                                                            'torch_port'))
  whole = transforms.resize(picture, (12, 12), transforms.BILINEAR)
  np.testing.assert_array_equal(coda, whole / np.float32(255))
  cut = transforms.resize(picture, (16, 16), transforms.BICUBIC)[2:14, 2:14]
  np.testing.assert_array_equal(port, cut / np.float32(255))


@pytest.mark.parametrize('name', transforms.NAMES)
class TestAugmentation:

  def test_flips_half_the_time_or_never(self, name):
    brighter_right = np.repeat(_row(*range(0, 250, 10)), 20, axis=0)
    for augmentation, low, high in (('crop_flip', 70, 130), ('crop', 0, 0)):
      transform = _transform(name, augmentation)
      draws = [transform.train(brighter_right, np.random.default_rng(seed))
               for seed in range(200)]
      assert low <= sum(x[0, 0, 0] > x[0, -1, 0] for x in draws) <= high

  def test_none_is_the_test_picture(self, name):
    picture = _picture(20, 30)
    transform = _transform(name, 'none')
    np.testing.assert_array_equal(
        transform.train(picture, np.random.default_rng(0)),
        transform.test(picture))

  def test_the_generator_alone_decides(self, name):
    picture, transform = _picture(20, 30), _transform(name)
    draw = lambda seed: transform.train(picture, np.random.default_rng(seed))
    np.random.seed(0)
    first = draw(1)
    np.random.seed(9)
    np.testing.assert_array_equal(draw(1), first)
    assert any((draw(seed) != first).any() for seed in (2, 3))


def test_jax_is_the_original_to_the_bit():
  picture = _picture(9, 10)
  transform = _transform('jax')
  for seed in range(4):
    np.testing.assert_array_equal(
        transform.train(picture, np.random.default_rng(seed)),
        preprocess.train_image(picture, np.random.default_rng(seed), **SIZES))
  np.testing.assert_array_equal(
      transform.test(picture),
      preprocess.eval_image(picture, 16, 12) / np.float32(255))


def test_unknown_name():
  with pytest.raises(ValueError, match="unknown transform 'torch'.*clean"):
    _transform('torch')


@pytest.mark.parametrize('name', ['jax', 'torch_port'])
def test_the_config_names_the_transform(tmp_path, name):
  config = fakes.config(tmp_path, transform=name)
  stream = input_pipeline.build(config, global_batch_size=4)
  transform = transforms.create(name, resize_size=10, crop_size=8,
                                augmentation='crop_flip')
  with np.load(tmp_path / 'data.npz') as file:
    train, test = file['train_images'], file['test_images']
  batch = next(iter(stream.eval_batches(stream.eval_sets[1])))
  for place, image in zip(batch['index'], batch['image'], strict=True):
    picture = test[stream.eval_sets[1].indices[place]]
    np.testing.assert_array_equal(image, transform.test(picture))
  # Training pictures are of noise: only their own boxes reproduce them.
  drawn = next(iter(stream.batches(stream.tasks[0])))['image'][0]
  seeds = [[config.seed, 0, 0, int(row), 1]
           for row in stream.tasks[0].train_indices]
  assert any(np.array_equal(drawn, transform.train(
      train[seed[3]], np.random.default_rng(seed))) for seed in seeds)
