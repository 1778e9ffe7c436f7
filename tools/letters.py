# SPDX-License-Identifier: Apache-2.0
"""Letters drawn the way scikit-learn's handwritten digits are drawn.

Those digits are pen strokes on a 32 x 32 bitmap, scaled to fill its height, of
which every 4 x 4 block was counted: 8 x 8 cells of 0 .. 16.  Here letters of
the fonts that matplotlib ships take the same way, after a random bend, slant,
turn, width and pen thickness.  No digit is ever drawn; some letters look like
one all the same (O, l, I, S, Z, q, g, b, B next to 0, 1, 1, 5, 2, 9, 9, 6, 8).

  glyphs = letters.load_glyphs()
  images, labels = letters.draw_batch(0, seed=0, batch_size=64, glyphs=glyphs)
"""

import pathlib
import string

import cv2
import matplotlib
from matplotlib import ft2font
import numpy as np

from promptcl.input_pipeline.views import preprocess

LETTERS = string.ascii_uppercase + string.ascii_lowercase
# The other bundled fonts hold symbols, sometimes at the places of letters.
FONT_FAMILIES = ('DejaVuSans', 'DejaVuSerif', 'STIXGeneral', 'cmb10', 'cmmi10',
                 'cmr10', 'cmss10', 'cmti10', 'cmtt10')
RESIZE_SIZE, CROP_SIZE = 36, 32  # those of the digits recipes
TRAIN, HELD_OUT = 0, 1  # parts; second word of a batch's seed

_GREY_LEVELS = 16
_CANVAS = 96  # side of the canvas a master glyph is stored on
_GLYPH = 56  # longer side of a master glyph
_FINE = 64  # side of the finely drawn bitmap; a cell of the result is 8 x 8


def load_glyphs() -> np.ndarray:
  """Renders every letter once per font.

  Returns:
    [L, F, 96, 96] uint8, white on black, centred; L follows `LETTERS`, F is
    the bundled text fonts in order of file name.
  """
  folder = pathlib.Path(matplotlib.get_data_path()) / 'fonts' / 'ttf'
  paths = [p for p in sorted(folder.glob('*.ttf'))
           if p.stem.startswith(FONT_FAMILIES)]
  fonts = [ft2font.FT2Font(str(p)) for p in paths]
  fonts = [f for f in fonts if set(map(ord, LETTERS)) <= set(f.get_charmap())]
  return np.stack([[_glyph(f, letter) for f in fonts] for letter in LETTERS])


def draw(rng: np.random.Generator, count: int, glyphs: np.ndarray
         ) -> tuple[np.ndarray, np.ndarray]:
  """Draws random letters.

  Args:
    rng: the only source of randomness.
    count: number of images.
    glyphs: from `load_glyphs`.

  Returns:
    images [count, 8, 8] uint8 of 0 .. 16, labels [count] int32.
  """
  labels = rng.integers(glyphs.shape[0], size=count)
  return draw_these(rng, labels, glyphs), labels.astype(np.int32)


def draw_these(rng: np.random.Generator, labels: np.ndarray,
               glyphs: np.ndarray) -> np.ndarray:
  """Draws one letter per label, each in a random font: [B, 8, 8] as `draw`."""
  fonts = rng.integers(glyphs.shape[1], size=len(labels))
  return np.stack([draw_one(rng, glyph) for glyph in glyphs[labels, fonts]])


def to_input(images: np.ndarray) -> np.ndarray:
  """[B, 8, 8] of 0 .. 16 -> [B, 32, 32, 3] float32 in [0, 1].

  Enlarges as the evaluation pipeline does; it takes the batch as channels.
  """
  grey = np.rint(images * (255 / _GREY_LEVELS)).astype(np.uint8)
  large = preprocess.eval_image(
      np.moveaxis(grey, 0, -1), RESIZE_SIZE, CROP_SIZE)
  unit = np.moveaxis(large, -1, 0).astype(np.float32) / 255
  return np.repeat(unit[..., None], 3, axis=-1)


def draw_batch(step: int, *, seed: int, batch_size: int, glyphs: np.ndarray,
               part: int = TRAIN) -> tuple[np.ndarray, np.ndarray]:
  """Batch number `step` of a part; a pure function of its arguments."""
  rng = np.random.default_rng([seed, part, step])
  images, labels = draw(rng, batch_size, glyphs)
  return to_input(images), labels


def draw_one(rng: np.random.Generator, glyph: np.ndarray) -> np.ndarray:
  """Distorts one master glyph and counts its ink: [8, 8] uint8, 0 .. 16."""
  fine = set_ink(fit(rng, bend(rng, glyph)), rng.normal(0.33, 0.04))
  cells = fine.reshape(8, 8, 8, 8).mean(axis=(1, 3))
  return np.rint(_GREY_LEVELS * cells).astype(np.uint8)


def bend(rng: np.random.Generator, glyph: np.ndarray) -> np.ndarray:
  """Turns, slants and bends a glyph; same shape as `glyph`."""
  turn, slant = rng.normal(0, 0.12), rng.normal(0, 0.15)
  cos, sin = np.cos(turn), np.sin(turn)
  matrix = np.array([[cos, -sin], [sin, cos]]) @ [[1, slant], [0, 1]]
  # A coarse random field enlarged smoothly moves neighbours together.
  field = rng.normal(0, 3.0, size=(4, 4, 2)).astype(np.float32)
  field = cv2.resize(field, (_CANVAS, _CANVAS), interpolation=cv2.INTER_CUBIC)
  centre = (_CANVAS - 1) / 2
  y, x = np.mgrid[:_CANVAS, :_CANVAS] - centre
  where = np.stack([x, y], axis=-1) @ matrix.T + centre + field
  return cv2.remap(glyph, where.astype(np.float32), None, cv2.INTER_LINEAR)


def fit(rng: np.random.Generator, glyph: np.ndarray) -> np.ndarray:
  """Scales a glyph's bounding box to the digits': full height, narrower.

  Returns:
    [64, 64] bool, the strokes as thick as they come.
  """
  rows, columns = (np.flatnonzero((glyph > 127).any(axis=a)) for a in (1, 0))
  box = glyph[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
  aspect = box.shape[1] / box.shape[0]
  height = round(rng.uniform(0.92, 1.0) * _FINE)
  width = 0.65 * (aspect / 0.8)**0.5 * np.exp(rng.normal(0, 0.12))
  width = round(np.clip(width, 0.15, 0.8) * _FINE)
  box = cv2.resize(box, (width, height), interpolation=cv2.INTER_LINEAR)
  top = round((_FINE - height) * rng.uniform())
  left = round((_FINE - width) * np.clip(rng.normal(0.45, 0.1), 0, 1))
  fine = np.zeros((_FINE, _FINE), bool)
  fine[top:top + height, left:left + width] = box > 127
  return fine


def set_ink(fine: np.ndarray, share: float) -> np.ndarray:
  """Thickens or thins strokes until they cover `share` of the bitmap.

  The change is at most 6 pixels outwards and 2 inwards, so the share is not
  always met: an `l` stays thin, a bold `W` stays dark.

  Args:
    fine: [s, s] bool.
    share: wanted part of the pixels.

  Returns:
    [s, s] bool.
  """
  inside = cv2.distanceTransform(fine.astype(np.uint8), cv2.DIST_L2, 5)
  outside = cv2.distanceTransform((~fine).astype(np.uint8), cv2.DIST_L2, 5)
  depth = inside - outside
  level = np.quantile(depth, np.clip(1 - share, 0, 1))
  return depth > np.clip(level, -6, 2)


def _glyph(font: ft2font.FT2Font, letter: str) -> np.ndarray:
  """One letter, longer side 56 pixels, on a canvas of 96."""
  font.set_size(96, 72)
  font.set_text(letter)
  font.draw_glyphs_to_bitmap(antialiased=True)
  image = np.asarray(font.get_image())
  rows, columns = (np.flatnonzero(image.any(axis=a)) for a in (1, 0))
  image = image[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
  scale = _GLYPH / max(image.shape)
  height, width = (max(1, round(scale * n)) for n in image.shape)
  image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
  top, left = (_CANVAS - height) // 2, (_CANVAS - width) // 2
  canvas = np.zeros((_CANVAS, _CANVAS), np.uint8)
  canvas[top:top + height, left:left + width] = image
  return canvas
