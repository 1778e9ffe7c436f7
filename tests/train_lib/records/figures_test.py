# SPDX-License-Identifier: Apache-2.0
"""Pictures: shape, where the colours are, and that numbers are drawn."""

from matplotlib import axes
import numpy as np
import pytest

from promptcl.models.parts import base
from promptcl.train_lib.records import figures

BLANK = (0xee, 0xee, 0xee)


def _lower_triangle(num_tasks, value=.9):
  return np.where(np.tri(num_tasks) > 0, value, np.nan)


def _colours(picture):
  """`{rgb: number of pixels}`."""
  values, counts = np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)
  return {tuple(map(int, v)): int(c) for v, c in zip(
      values, counts, strict=True)}


@pytest.mark.parametrize('num_tasks', [1, 2, 10, 20, 60])
def test_accuracy_matrix_is_an_image_for_tensorboard(num_tasks):
  picture = figures.accuracy_matrix(_lower_triangle(num_tasks))
  assert picture.dtype == np.uint8 and picture.ndim == 4
  assert picture.shape[0] == 1 and picture.shape[3] == 3
  assert max(picture.shape) <= 1100


@pytest.mark.parametrize('num_tasks', [10, 20])
def test_cells_are_large_enough_for_their_numbers(num_tasks):
  picture = figures.accuracy_matrix(_lower_triangle(num_tasks))
  assert picture.shape[1] > 40 * num_tasks


@pytest.mark.parametrize('draw, columns, rows', [
    (lambda: figures.accuracy_matrix(np.ones((3, 2))), '1 2', '1 2 3'),
    (lambda: figures.accuracy_matrix(np.ones((3, 1))), '1 2 3', ''),
    (lambda: figures.prompt_usage(np.ones((2, 3))), '0 1 2', '1 2')])
def test_tasks_and_sets_are_numbered_from_1_and_prompts_from_0(
    draw, columns, rows, monkeypatch):
  labels = {}
  for name in 'set_xticks', 'set_yticks':
    monkeypatch.setattr(
        axes.Axes, name, lambda self, places, texts, name=name:
        labels.update({name: ' '.join(texts)}))
  draw()
  assert labels.get('set_xticks') == columns
  assert labels.get('set_yticks', '') == rows


def test_sets_not_evaluated_stay_blank():
  colours = _colours(figures.accuracy_matrix(_lower_triangle(5)))
  cell = 44 * 44
  assert 9.5 * cell < colours[BLANK] < 10.5 * cell  # 10 of 25 cells
  full = _colours(figures.accuracy_matrix(np.full((5, 5), .9)))
  assert full.get(BLANK, 0) < cell / 10


def test_colours_follow_the_values():
  # Red of viridis at 0, 75 and 100 percent.
  expected = {(70, 90): 68, (150, 90): 94, (150, 280): 253}
  picture = figures.accuracy_matrix(np.array([[0., np.nan], [.75, 1.]]))[0]
  for (row, column), red in expected.items():
    assert int(picture[row, column, 0]) == pytest.approx(red, abs=2)


def test_each_value_is_written_into_its_cell():
  same = figures.accuracy_matrix(_lower_triangle(3, .5001))
  other = _lower_triangle(3, .5001)
  other[2, 0] = .5029  # the same colour to the eye, another number: 50.3
  changed = np.argwhere((figures.accuracy_matrix(other) != same).any(-1)[0])
  assert len(changed)
  rows, columns = changed.T
  assert rows.min() >= 45 + 88 and rows.max() <= 45 + 132
  assert columns.min() >= 75 and columns.max() <= 75 + 74


def test_single_evaluation_set_is_a_curve():
  accuracies = np.full((200, 1), np.nan)
  accuracies[9::10, 0] = .5
  low = figures.accuracy_matrix(accuracies)
  high = figures.accuracy_matrix(accuracies * 1.8)
  line = np.array([0x1f, 0x77, 0xb4])
  row = lambda picture: np.argwhere(
      (picture[0] == line).all(-1))[:, 0].mean()
  assert low.shape == high.shape and low.shape[1] < low.shape[2]
  # 40 percent of an axis that is 300 pixels high.
  assert row(low) - row(high) == pytest.approx(120, abs=3)


def test_prompt_usage_shows_shares_not_counts():
  counts = np.array([[1, 3, 0], [0, 2, 2]])
  scaled = counts * np.array([[10], [1000]])
  np.testing.assert_array_equal(figures.prompt_usage(counts),
                                figures.prompt_usage(scaled))
  assert (figures.prompt_usage(counts[:, ::-1]) !=
          figures.prompt_usage(counts)).any()


def test_prompt_usage_of_a_set_without_picks_is_blank():
  counts = np.array([[5, 5, 5, 5], [0, 0, 0, 0]])
  colours = _colours(figures.prompt_usage(counts))
  assert colours[BLANK] > 4 * 44 * 44 * .9


@pytest.mark.parametrize('shape', [(1, 1), (5, 100), (20, 20), (10, 30)])
def test_prompt_usage_of_any_size(shape):
  picture = figures.prompt_usage(np.ones(shape, int))
  assert picture.shape[0] == 1 and max(picture.shape) <= 1100


def test_a_heat_map_of_both_signs_is_white_at_zero():
  picture = figures.draw(base.HeatMap(
      np.array([[-30.0, 0.0, 30.0]]), 'title', 'rows', 'columns'))
  assert picture.dtype == np.uint8 and picture.ndim == 4
  redness = picture[0, ..., 0].astype(int) - picture[0, ..., 2]
  size = np.count_nonzero(redness > 40)  # of the cell of 30
  assert size > 500
  assert np.count_nonzero(redness < -40) == pytest.approx(size, rel=0.5)


def test_overlays_redden_what_a_map_picks_out():
  images = np.ones((2, 8, 8, 3)) * [-1.0, 0.0, 1.0]
  maps = np.array([[[1.0, 0, 0, 0]], [[1.0, 1, 1, 1]]])
  picture = figures.draw(base.Overlays(images, maps, 'title', ('block 0',)))
  colours = _colours(picture)
  panel = colours[(0, 127, 255)] / 2  # values are stretched to the full range
  assert colours[(0, 63, 127)] == pytest.approx(0.75 * panel, rel=0.1)
  assert colours[(127, 63, 127)] == pytest.approx(1.25 * panel, rel=0.1)


@pytest.mark.parametrize('side', [8, 9])
def test_maps_are_laid_over_their_patches(side):
  enlarged = figures._enlarged(np.arange(4.0), side)[..., 0]
  assert enlarged.shape == (side, side)
  np.testing.assert_allclose(
      enlarged[[0, 0, -1, -1], [0, -1, 0, -1]], np.arange(4) / 3)
