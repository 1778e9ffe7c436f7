# SPDX-License-Identifier: Apache-2.0
"""Pictures for TensorBoard: accuracy matrix and prompt usage.

Figures are drawn on canvases of their own, so nothing depends on a display or
on pyplot's list of figures.  Each function returns uint8 [1, height, width, 3].
"""

from collections.abc import Sequence

from etils import epy
import numpy as np

from promptcl.models.parts import base

with epy.lazy_imports():  # a dry run draws nothing
  from matplotlib.backends import backend_agg
  import matplotlib.figure

_DPI = 100
_CELL = .44  # inches: room for '83.1' at _FONT
_FONT = 8
_MAX_NUMBERED = 25  # rows or columns, beyond which cells hold no number
_MAX_INCHES = 11.


def accuracy_matrix(accuracies: np.ndarray, *,
                    title: str = 'Accuracy') -> np.ndarray:
  """Accuracies [T, E] in percent: rows are trained tasks, columns sets,
  both numbered from 1.

  A single evaluation set (E = 1) is drawn as a curve over the tasks.
  """
  percent = 100 * np.asarray(accuracies, np.float64)
  if percent.shape[1] == 1 and percent.shape[0] > 1:
    return _curve(percent[:, 0], title=f'{title} (%)', xlabel='after task')
  return _heat_map(percent, title=f'{title} (%)', ylabel='after task',
                   xlabel='evaluation set', colormap='viridis', top=100.,
                   first=(1, 1))


def prompt_usage(counts: np.ndarray, *,
                 title: str = 'Prompt usage') -> np.ndarray:
  """Counts [E, M] as the share of picks of a set that fell on each prompt."""
  counts = np.asarray(counts, np.float64)
  picks = counts.sum(axis=1, keepdims=True)
  shares = np.where(picks > 0, 100 * counts / np.maximum(picks, 1), np.nan)
  return _heat_map(shares, title=f'{title} (% of picks)', xlabel='prompt',
                   ylabel='evaluation set', colormap='cividis',
                   top=float(np.fmax.reduce(shares, axis=None, initial=1.)),
                   first=(1, 0))


def draw(picture: base.HeatMap | base.Overlays) -> np.ndarray:
  """What a method shows of itself."""
  if isinstance(picture, base.Overlays):
    return _overlays(picture)
  values = np.asarray(picture.values, np.float64)
  top = float(np.nanmax(np.abs(values), initial=1e-6))
  return _heat_map(values, title=picture.title, xlabel=picture.xlabel,
                   ylabel=picture.ylabel, colormap='RdBu_r', top=top,
                   bottom=-top)


def _overlays(picture: base.Overlays) -> np.ndarray:
  """A row per image: as it is, and dark with each of its maps in red."""
  images = np.asarray(picture.images, np.float64)
  low = images.min(axis=(1, 2, 3), keepdims=True)
  high = images.max(axis=(1, 2, 3), keepdims=True)
  images = (images - low) / np.maximum(high - low, 1e-12)
  rows, columns = picture.maps.shape[:2]
  figure = matplotlib.figure.Figure(
      figsize=(1.3 * columns + 1.3, 1.3 * rows + .6), dpi=_DPI)
  axes = figure.subplots(rows, columns + 1, squeeze=False)
  figure.suptitle(picture.title, fontsize=_FONT + 3)
  for row, (image, maps) in enumerate(zip(images, picture.maps, strict=True)):
    axes[row, 0].imshow(image)
    for cell, values in zip(axes[row, 1:], maps, strict=True):
      red = _enlarged(values, image.shape[0]) * (1, 0, 0)
      cell.imshow((image + red) / 2)
  for cell, name in zip(axes[0, 1:], picture.columns, strict=True):
    cell.set_title(name, fontsize=_FONT)
  for cell in axes.flat:
    cell.set_axis_off()
  return _render(figure)


def _enlarged(values: np.ndarray, side: int) -> np.ndarray:
  """A map [N] of patches over its largest value as [side, side, 1]."""
  grid = int(np.sqrt(values.size))
  nearest = np.arange(side) * grid // side
  values = np.reshape(values / np.maximum(values.max(), 1e-12), (grid, grid))
  return values[nearest[:, None], nearest, None]


def _heat_map(values: np.ndarray, *, title: str, xlabel: str, ylabel: str,
              colormap: str, top: float, bottom: float = 0.,
              first: tuple[int, int] = (0, 0)) -> np.ndarray:
  """Coloured cells from `bottom` to `top`; NaN stays blank.

  `first`: number of the first row and of the first column.
  """
  rows, columns = values.shape
  cell = min(_CELL, (_MAX_INCHES - 1.8) / max(rows, columns))
  height, width = max(rows * cell, 1.2), max(columns * cell, 2.2)
  figure, axes = _figure(width, height, title, xlabel, ylabel, right=.8)
  picture = axes.imshow(
      np.ma.masked_invalid(values), cmap=colormap, vmin=bottom, vmax=top,
      aspect='auto', interpolation='nearest')
  axes.set_facecolor('#eeeeee')
  axes.set_xticks(*_ticks(columns, first[1]))
  axes.set_yticks(*_ticks(rows, first[0]))
  bar = figure.add_axes((_left(figure) + (width + .15) / figure.get_figwidth(),
                         axes.get_position().y0, .14 / figure.get_figwidth(),
                         axes.get_position().height))
  figure.colorbar(picture, cax=bar).ax.tick_params(labelsize=_FONT)
  if max(rows, columns) <= _MAX_NUMBERED:
    _write_numbers(axes, values, picture)
  return _render(figure)


def _curve(values: np.ndarray, *, title: str, xlabel: str) -> np.ndarray:
  """A line through the values that are there."""
  figure, axes = _figure(6., 3., title, xlabel, 'percent', right=.2)
  tasks = np.flatnonzero(~np.isnan(values))
  axes.plot(tasks, values[tasks], marker='o', markersize=3, clip_on=False)
  axes.set_xlim(-.5, len(values) - .5)
  axes.set_ylim(0, 100)
  axes.set_xticks(*_ticks(len(values), 1))
  axes.grid(alpha=.3)
  for task in tasks[-1:]:
    axes.annotate(_number(values[task]), (task, values[task]), xytext=(0, 6),
                  textcoords='offset points', ha='right', fontsize=_FONT)
  return _render(figure)


def _figure(width: float, height: float, title: str, xlabel: str, ylabel: str,
            *, right: float
            ) -> tuple['matplotlib.figure.Figure', 'matplotlib.axes.Axes']:
  """A figure around axes of exactly `width` x `height` inches."""
  left, bottom, above = .75, .65, .45
  total = (left + width + right, bottom + height + above)
  figure = matplotlib.figure.Figure(figsize=total, dpi=_DPI)
  axes = figure.add_axes((left / total[0], bottom / total[1],
                          width / total[0], height / total[1]))
  axes.set_title(title, fontsize=_FONT + 3)
  axes.set_xlabel(xlabel, fontsize=_FONT + 2)
  axes.set_ylabel(ylabel, fontsize=_FONT + 2)
  axes.tick_params(labelsize=_FONT)
  return figure, axes


def _left(figure: 'matplotlib.figure.Figure') -> float:
  return figure.axes[0].get_position().x0


def _ticks(count: int, first: int = 0) -> tuple[Sequence[int], Sequence[str]]:
  """Numbers from `first` where they fit, else every 5th, 10th, 50th, ..."""
  steps = [1] + [m * 10 ** k for k in range(6) for m in (5, 10)]
  step = next(s for s in steps if count / s <= _MAX_NUMBERED)
  places = range(0, count, step)
  return places, [str(first + place) for place in places]


def _write_numbers(axes: 'matplotlib.axes.Axes', values: np.ndarray,
                   picture: 'matplotlib.image.AxesImage') -> None:
  """Puts each value into its cell, dark on light and light on dark."""
  for (row, column), value in np.ndenumerate(values):
    if np.isnan(value):
      continue
    red, green, blue, _ = picture.cmap(picture.norm(value))
    luminance = .299 * red + .587 * green + .114 * blue
    axes.text(column, row, _number(value), ha='center', va='center',
              fontsize=_FONT, color='black' if luminance > .5 else 'white')


def _number(value: float) -> str:
  """Three digits at most: 83.1, 100, 0."""
  return '0' if value == 0 else f'{value:.1f}' if value < 99.95 else '100'


def _render(figure: 'matplotlib.figure.Figure') -> np.ndarray:
  """Draws a figure into an array [1, height, width, 3]."""
  canvas = backend_agg.FigureCanvasAgg(figure)
  canvas.draw()
  return np.asarray(canvas.buffer_rgba())[None, ..., :3].copy()
