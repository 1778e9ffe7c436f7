# SPDX-License-Identifier: Apache-2.0
"""Stateless image functions: (image, generator) -> image.

The arithmetic is that of the original L2P code, to the last bit where it can
be: a picture is first squeezed to `resize_size` squared (bilinear, half-pixel
centres, no anti-aliasing, fraction dropped) and then either cut in the centre
(evaluation) or cropped at random, enlarged and flipped (training). Unlike the
original, training pictures are not re-encoded as JPEG in between.

    image = train_image(image, rng, resize_size=256, crop_size=224)
    image = normalize(image, 'imagenet')

Only the part of the squeezed picture that a crop needs is computed. OpenCV's
resize rounds its weights differently, hence the NumPy one here.
"""

import functools

import numpy as np

# Mean and deviation of the pictures that backbones were trained on.
MOMENTS = {
    'imagenet': ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    'clip': ((0.48145466, 0.4578275, 0.40821073),
             (0.26862954, 0.26130258, 0.27577711))}
INPUT_RANGES = ('zero_one', 'minus_one_one', 'imagenet', 'clip', 'dataset')
AUGMENTATIONS = ('crop_flip', 'crop', 'none')
MAX_BOX_ATTEMPTS = 100  # then the whole picture is used
Box = tuple[int, int, int, int]  # top, left, height, width
BLOCK = 64  # rows of output computed at a time


def train_image(image: np.ndarray, rng: np.random.Generator, *,
                resize_size: int, crop_size: int,
                augmentation: str = 'crop_flip') -> np.ndarray:
  """Augments one training picture.

  Args:
    image: uint8 [h, w, 3].
    rng: NumPy generator, the only source of randomness.
    resize_size: side of the squeezed picture that boxes are drawn in.
    crop_size: side of the result, S.
    augmentation: 'crop_flip' (the original), 'crop' (no flip: digits and
      letters change their meaning) or 'none' (as in evaluation).

  Returns:
    float32 [S, S, 3] in [0, 1].
  """
  if augmentation == 'none':
    return to_unit(eval_image(image, resize_size, crop_size))
  top, left, height, width = box = sample_box(rng, resize_size, resize_size)
  flip = augmentation == 'crop_flip' and bool(rng.integers(2))
  part = resize_uint8(image, resize_size, window=box)
  return crop_flip_resize(part, (0, 0, height, width), flip, crop_size)


def eval_image(image: np.ndarray, resize_size: int, crop_size: int
               ) -> np.ndarray:
  """Squeezes a uint8 [h, w, 3] picture and cuts its centre, uint8 [S, S, 3]."""
  margin = (resize_size - crop_size) // 2
  window = (margin, margin, crop_size, crop_size)
  return resize_uint8(image, resize_size, window=window)


def resize_uint8(image: np.ndarray, size: int, window: Box | None = None
                 ) -> np.ndarray:
  """Squeezes a picture to a square, or computes just a window of that square.

  Args:
    image: uint8 [h, w, c].
    size: side of the square; the aspect ratio is not kept.
    window: (top, left, height, width) within the square; None is all of it.

  Returns:
    uint8 [height, width, c], the fraction of each value dropped.
  """
  return _bilinear(image, (size, size), window, dtype=np.uint8)


def crop_flip_resize(image: np.ndarray, box: Box, flip: bool, crop_size: int
                     ) -> np.ndarray:
  """Cuts `box` out of uint8 [h, w, c] and enlarges it, float32 [S, S, c].

  Args:
    image: uint8 [h, w, c].
    box: (top, left, height, width).
    flip: whether left and right are exchanged.
    crop_size: side of the result, S; values are in [0, 1].
  """
  top, left, height, width = box
  crop = to_unit(image[top:top + height, left:left + width])
  return _bilinear(crop, (crop_size, crop_size), None, flip=flip)


def sample_box(rng: np.random.Generator, height: int, width: int,
               area: tuple[float, float] = (0.05, 1.0),
               aspect: tuple[float, float] = (3 / 4, 4 / 3)) -> Box:
  """Draws a crop as TensorFlow's `sample_distorted_bounding_box` does.

  The aspect ratio (width / height) is uniform; then the box height is uniform
  over the whole numbers that keep the area in bounds. So the area itself is
  not uniform: small boxes are more frequent (parity notes, 6.26).

  Args:
    rng: NumPy generator.
    height: of the picture, pixels.
    width: of the picture, pixels.
    area: smallest and largest share of the picture that the box covers.
    aspect: smallest and largest width / height.

  Returns:
    (top, left, height, width); all of the picture where no box fits in
    `MAX_BOX_ATTEMPTS` draws.
  """
  bounds = tuple(share * height * width for share in area)
  for _ in range(MAX_BOX_ATTEMPTS):
    size = _box_size(rng, height, width, bounds, rng.uniform(*aspect))
    if size is not None:
      # The last offset is never drawn unless it is the only one.
      top = int(rng.integers(max(1, height - size[0])))
      left = int(rng.integers(max(1, width - size[1])))
      return top, left, *size
  return 0, 0, height, width


def normalize(image: np.ndarray, input_range: str,
              mean: np.ndarray | None = None, std: np.ndarray | None = None
              ) -> np.ndarray:
  """Moves values from [0, 1] to the range a backbone was trained on.

  Args:
    image: float32 [..., 3] in [0, 1].
    input_range: one of `INPUT_RANGES`.
    mean: per channel, in [0, 1]; used by 'dataset' alone.
    std: likewise.

  Returns:
    float32 [..., 3].

  Raises:
    ValueError: the range is unknown.
  """
  if input_range == 'zero_one':
    return image
  if input_range == 'minus_one_one':
    return image * np.float32(2) - np.float32(1)
  if input_range in MOMENTS:
    mean, std = MOMENTS[input_range]
  elif input_range != 'dataset':
    raise ValueError(
        f'unknown input_range {input_range!r}, have {INPUT_RANGES}')
  return _standardize(image, np.float32(mean), np.float32(std))


def to_unit(image: np.ndarray) -> np.ndarray:
  """uint8 [0, 255] -> float32 [0, 1]."""
  image = image.astype(np.float32)
  image /= np.float32(255)
  return image


def _standardize(image: np.ndarray, mean: np.ndarray, std: np.ndarray
                 ) -> np.ndarray:
  """(image - mean) / std over whole rows: broadcasting over 3 is slow."""
  *leading, width, channels = image.shape
  rows = image.reshape(*leading, width * channels) - np.tile(mean, width)
  rows /= np.tile(std, width)
  return rows.reshape(image.shape)


def _box_size(rng: np.random.Generator, height: int, width: int,
              bounds: tuple[float, ...], aspect: float
              ) -> tuple[int, int] | None:
  """One draw of (height, width), or None where the result is out of bounds."""
  low, high = (round((bound / aspect) ** 0.5) for bound in bounds)
  if round(high * aspect) > width:
    # The largest height whose width still rounds down to the picture's.
    high = int((width + 0.5 - 1e-7) / aspect)
  high = min(high, height)
  low = min(low, high)
  box_height = int(rng.integers(low, high + 1))
  box_width = round(box_height * aspect)
  # Rounding may leave the area a little out of bounds: one row mends most.
  if box_width * box_height < bounds[0]:
    box_height += 1
    box_width = round(box_height * aspect)
  if box_width * box_height > bounds[1]:
    box_height -= 1
    box_width = round(box_height * aspect)
  fits = (bounds[0] <= box_width * box_height <= bounds[1]
          and 0 < box_width <= width and 0 < box_height <= height)
  return (box_height, box_width) if fits else None


def _bilinear(image: np.ndarray, size: tuple[int, int], window: Box | None, *,
              flip: bool = False, dtype: type[np.generic] = np.float32
              ) -> np.ndarray:
  """`dtype` [height, width, c]: `window` of `image` resized to `size`.

  Written over flat rows [h, w * c], which NumPy gathers several times faster
  than pixels of three numbers. The order of the operations (rows first, then
  columns, a + (b - a) * weight) is TensorFlow's, so results are bit-equal.
  """
  top, left, height, width = (0, 0, *size) if window is None else window
  h, w, channels = image.shape
  low, high, weight = (t[top:top + height] for t in _taps(h, size[0]))
  first, last = low[0], high[-1] + 1
  rows = image[first:last].reshape(last - first, w * channels)
  part = slice(left * channels, (left + width) * channels)
  rows = _lerp(rows.astype(np.float32),
               *(t[part] for t in _taps(w, size[1], channels, flip)), axis=1)
  out = np.empty((height, width * channels), dtype)
  # In blocks: temporaries stay in the cache and off the system's allocator.
  for start in range(0, height, BLOCK):
    block = slice(start, start + BLOCK)
    out[block] = _lerp(rows, low[block] - first, high[block] - first,
                       weight[block, None], axis=0)
  return out.reshape(height, width, channels)


def _lerp(array: np.ndarray, low: np.ndarray, high: np.ndarray,
          weight: np.ndarray, *, axis: int) -> np.ndarray:
  start = array.take(low, axis)
  step = array.take(high, axis)
  step -= start
  step *= weight
  step += start
  return step


@functools.lru_cache(maxsize=4096)
def _taps(size_in: int, size_out: int, channels: int = 1, flip: bool = False
          ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Neighbours and weight of each output position along one axis.

  Args:
    size_in: length of the axis before.
    size_out: length after.
    channels: numbers per position; indices are into an axis of all of them.
    flip: the output runs backwards.

  Returns:
    low, high: int [size_out * channels]; weight: float32, of the upper one.
  """
  scale = np.float32(size_in) / np.float32(size_out)
  half = np.float32(0.5)
  position = (np.arange(size_out, dtype=np.float32) + half) * scale - half
  if flip:
    position = position[::-1]
  floor = np.floor(position)
  low = np.maximum(floor, 0).astype(np.intp)
  high = np.minimum(np.ceil(position), size_in - 1).astype(np.intp)
  offset = np.arange(channels)
  low, high = ((t[:, None] * channels + offset).ravel() for t in (low, high))
  return low, high, np.repeat(position - floor, channels)
