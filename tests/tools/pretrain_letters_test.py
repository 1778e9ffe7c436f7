# SPDX-License-Identifier: Apache-2.0
"""Letters, their pretraining, and the file that ships."""

import functools
import pathlib
import string

from flax import traverse_util
import jax
import numpy as np
import pytest
from sklearn import datasets

from promptcl.models.networks import vit
from promptcl.models.weights import pretrained
from promptcl.tools import letters
from promptcl.tools import pretrain_letters

pytestmark = pytest.mark.slow

SHIPPED = (pathlib.Path(__file__).parents[2]
           / 'models' / 'weights' / 'letters_vit.npz')
BATCH = 16


@pytest.fixture(scope='module')
def glyphs():
  return letters.load_glyphs()


@pytest.fixture(scope='module')
def model():
  return vit.create('testing', image_size=letters.CROP_SIZE)


def backbone_like(model):
  images = np.zeros((1, letters.CROP_SIZE, letters.CROP_SIZE, 3), np.float32)
  return jax.eval_shape(model.init, jax.random.PRNGKey(0), images)['params']


def test_symbols_are_the_latin_letters_and_no_digit():
  assert len(set(letters.LETTERS)) == len(letters.LETTERS) == 52
  assert not set(letters.LETTERS) & set(string.digits)


def test_every_font_draws_52_shapes_of_its_own(glyphs):
  num_letters, num_fonts = glyphs.shape[:2]
  assert num_letters == 52 and num_fonts > 10
  for font in range(num_fonts):
    shapes = {glyphs[i, font].tobytes() for i in range(num_letters)}
    # A font without letters draws the same box for all of them.  At equal
    # size `o` may be `O`, as other pairs may, but no font has eight of those.
    assert len(shapes) > 44


def test_glyphs_stay_clear_of_the_border(glyphs):
  inner = glyphs[:, :, 20:-20, 20:-20]
  assert inner.sum(dtype=np.int64) == glyphs.sum(dtype=np.int64)
  assert inner.any(axis=(2, 3)).all()


def test_an_unbent_glyph_is_scaled_to_fill_the_box():
  rng = np.random.default_rng(0)
  glyph = np.zeros((96, 96), np.uint8)
  glyph[40:50, 30:60] = 255  # 3 times as wide as high
  fine = letters.fit(rng, glyph)
  rows = np.flatnonzero(fine.any(axis=1))
  columns = np.flatnonzero(fine.any(axis=0))
  assert np.ptp(rows) + 1 >= 0.92 * 64 - 1
  assert np.ptp(columns) + 1 == round(0.8 * 64)  # the widest allowed


@pytest.mark.parametrize('share', [0.2, 0.4])
def test_set_ink_meets_the_share_within_reach(share):
  fine = np.zeros((64, 64), bool)
  fine[10:54, 27:37] = True
  fine[27:37, 10:54] = True  # 19 % ink
  assert letters.set_ink(fine, share).mean() == pytest.approx(share, abs=0.04)


def test_set_ink_is_limited():
  fine = np.zeros((64, 64), bool)
  fine[30:34] = True
  assert letters.set_ink(fine, 0.9).sum() == (4 + 2 * 5) * 64
  assert letters.set_ink(fine, 0.3).mean() < 0.25


def test_drawing_depends_on_the_seed_alone(glyphs):
  def draw(**kwargs):
    return letters.draw_batch(
        **{'step': 3, 'seed': 5, 'batch_size': 8, 'glyphs': glyphs} | kwargs)

  images, labels = draw()
  again, labels_again = draw()
  np.testing.assert_array_equal(images, again)
  np.testing.assert_array_equal(labels, labels_again)
  for other in ({'step': 4}, {'seed': 6}, {'part': letters.HELD_OUT}):
    assert not np.array_equal(images, draw(**other)[0])


def test_letters_have_the_ink_of_the_digits(glyphs):
  images, labels = letters.draw(np.random.default_rng(1), 500, glyphs)
  digits = datasets.load_digits().images
  assert images.shape == (500, 8, 8) and images.max() == 16
  assert set(labels) <= set(range(52)) and len(set(labels)) > 40
  assert images.mean() == pytest.approx(digits.mean(), rel=0.1)
  assert images.std() == pytest.approx(digits.std(), rel=0.1)


def test_input_is_grey_in_the_unit_range_and_enlarged_in_place():
  image = np.zeros((1, 8, 8))
  image[0, 2, 5] = 16
  x = letters.to_input(image)
  assert x.shape == (1, 32, 32, 3) and x.dtype == np.float32
  np.testing.assert_array_equal(x[..., 0], x[..., 2])
  # Cell (2, 5) covers rows 9 to 13.5 and columns 22.5 to 27 of 36; the crop
  # takes 2 off.  Its middle keeps its level, two cells away nothing is left.
  assert x[0, 9, 22, 0] == pytest.approx(1, abs=0.12)
  assert x[0, 9, 22, 0] == x.max()
  assert not x[0, 20:].any() and not x[0, :, :10].any()


def test_grid_waves_tell_all_patches_apart_and_neighbours_least():
  table = pretrain_letters.grid_waves(8, 128)
  assert table.shape == (1, 65, 128) and not table[0, 0].any()
  grid = table[0, 1:].reshape(8, 8, 128)
  distance = np.linalg.norm(grid - grid[3, 3], axis=-1)
  assert np.argmin(distance) == 3 * 8 + 3 and np.sum(distance == 0) == 1
  assert distance[3, 4] < distance[3, 6] and distance[4, 3] < distance[6, 3]


def test_training_steps_lower_the_loss_and_repeat_exactly(model, glyphs):
  optimizer = pretrain_letters.make_optimizer(2)
  step = pretrain_letters.make_train_step(
      functools.partial(pretrain_letters.loss_fn, model=model), optimizer)
  batch = letters.draw_batch(0, seed=0, batch_size=BATCH, glyphs=glyphs)

  def run():
    state = pretrain_letters.State.create(
        pretrain_letters.start_params(model, 0), optimizer)
    losses = []
    for _ in range(3):  # the rate is 0 at first: two steps change something
      state, loss = step(state, *batch)
      losses.append(float(loss))
    return losses, jax.device_get(state.params)

  losses, params = run()
  losses_again, params_again = run()
  # The head starts at 0: every letter equally likely.
  assert losses[0] == pytest.approx(np.log(52), rel=1e-4)
  assert losses[0] == losses[1] > losses[2]
  assert losses == losses_again
  jax.tree.map(np.testing.assert_array_equal, params, params_again)


def test_a_trained_backbone_is_saved_for_the_loader(model, glyphs, tmp_path):
  params = pretrain_letters.train(
      model, num_steps=2, batch_size=BATCH, seed=0, glyphs=glyphs)
  path = tmp_path / 'new' / 'letters.npz'
  pretrain_letters.save(str(path), params['backbone'])
  assert [p.name for p in path.parent.iterdir()] == ['letters.npz']
  loaded = pretrained.load(str(path), backbone_like(model))
  jax.tree.map(
      lambda a, b: np.testing.assert_array_equal(a.astype(np.float16), b),
      params['backbone'], loaded)


def test_digit_accuracy_of_known_features():
  labels = np.repeat(np.arange(10), 20)
  apart = np.eye(10)[labels]
  assert set(pretrain_letters.digit_accuracy(apart, labels).values()) == {1.0}
  same = np.zeros((200, 10))
  scores = pretrain_letters.digit_accuracy(same, labels)
  assert set(scores.values()) == {0.1}


def test_letter_accuracy_may_ignore_case():
  labels = np.arange(52)
  head = {'kernel': np.eye(52), 'bias': np.zeros(52)}
  swapped = np.eye(52)[(labels + 26) % 52]
  assert pretrain_letters.letter_accuracy(swapped, labels, head) == {
      'letters': 0.0, 'letters, case ignored': 1.0}


def test_shipped_file_fits_its_variant_and_is_small():
  assert SHIPPED.stat().st_size < 3_000_000
  with np.load(SHIPPED, allow_pickle=False) as file:
    assert {file[k].dtype for k in file.files} == {np.dtype(np.float16)}
  model = vit.create(pretrain_letters.VARIANT, image_size=letters.CROP_SIZE)
  loaded = pretrained.load(str(SHIPPED), backbone_like(model))
  for path, leaf in traverse_util.flatten_dict(loaded, sep='/').items():
    assert np.isfinite(leaf).all(), path


def test_shipped_features_tell_digits_apart():
  """Every other one of scikit-learn's."""
  model = vit.create(pretrain_letters.VARIANT, image_size=letters.CROP_SIZE)
  backbone = pretrained.load(str(SHIPPED), backbone_like(model))
  digits = datasets.load_digits()
  features = pretrain_letters.features_of(
      model, backbone, letters.to_input(digits.images[::2]))
  scores = pretrain_letters.digit_accuracy(features, digits.target[::2])
  assert scores['digits, nearest class mean'] > 0.85
  assert scores['digits, linear probe'] > 0.93
