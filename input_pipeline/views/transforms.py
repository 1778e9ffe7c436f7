# SPDX-License-Identifier: Apache-2.0
"""From a stored picture to what the network sees, by the code it comes from.

    transform = transforms.create('torch_port', resize_size=256, crop_size=224,
                                  augmentation='crop_flip')
    image = transform.train(image, rng)  # uint8 [h, w, 3] -> float32 [S, S, 3]
    image = transform.test(image)        # in [0, 1]

'jax' is the original's arithmetic (`preprocess`). The others are torchvision's
on Pillow pictures, as the PyTorch code bases of the family use it: the random
box is cut out of the original picture and resized, a test picture keeps its
aspect ratio, and Pillow's filters widen when a picture shrinks (antialiasing).
"""

import dataclasses
import math

import numpy as np
from PIL import Image

from promptcl.input_pipeline.views import preprocess

BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
NUM_ATTEMPTS = 10  # then the centre of the picture is used
CIFAR_SIZE = (32, 32)


@dataclasses.dataclass(frozen=True)
class Rules:
  """What differs between code bases that use torchvision.

  Attributes:
    area: smallest and largest share of the picture that a random box covers.
    aspect: smallest and largest width / height of the box.
    train_filter, test_filter: of Pillow.
    whole_cifar: test pictures of CIFAR's size go straight to the crop size.
  """

  area: tuple[float, float] = (0.05, 1.0)
  aspect: tuple[float, float] = (3 / 4, 4 / 3)
  train_filter: Image.Resampling = BILINEAR
  test_filter: Image.Resampling = BICUBIC
  whole_cifar: bool = False


RULES = {
    # The L2P and DualPrompt ports, PGP around them, PILOT.
    'torch_port': Rules(),
    'clip_pgp': Rules(test_filter=BILINEAR),
    'libcontinual': Rules(aspect=(0.75, 1.3333)),
    # CODA-Prompt, VQ-Prompt: torchvision's defaults throughout.
    'coda': Rules(area=(0.08, 1.0), test_filter=BILINEAR, whole_cifar=True),
    # Torchvision's defaults in training.
    'torchvision': Rules(area=(0.08, 1.0)),
    # CLIP's filter throughout, and torchvision's defaults.
    'clip': Rules(area=(0.08, 1.0), train_filter=BICUBIC),
    # Of ours: one filter for training and test.
    'clean': Rules(train_filter=BICUBIC),
}
NAMES = ('jax', *RULES)


@dataclasses.dataclass(frozen=True)
class Squeezed:
  """The original's: see `preprocess`.

  Attributes:
    resize_size: side of the square that a picture is squeezed to.
    crop_size: side of the result, S.
    augmentation: one of `preprocess.AUGMENTATIONS`.
  """

  resize_size: int
  crop_size: int
  augmentation: str

  def train(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Augments a picture; the generator is the only source of randomness."""
    return preprocess.train_image(image, rng, **dataclasses.asdict(self))

  def test(self, image: np.ndarray) -> np.ndarray:
    """The centre of the squeezed picture."""
    return preprocess.to_unit(preprocess.eval_image(
        image, self.resize_size, self.crop_size))


@dataclasses.dataclass(frozen=True)
class Torchvision:
  """Torchvision's RandomResizedCrop, flip, Resize and CenterCrop on Pillow.

  Attributes:
    rules: of the code base.
    resize_size: of the short side of a test picture.
    crop_size: side of the result, S.
    augmentation: one of `preprocess.AUGMENTATIONS`.
  """

  rules: Rules
  resize_size: int
  crop_size: int
  augmentation: str

  def train(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Augments a picture; the generator is the only source of randomness."""
    if self.augmentation == 'none':
      return self.test(image)
    rules, size = self.rules, (self.crop_size, self.crop_size)
    top, left, height, width = sample_box(
        rng, *image.shape[:2], area=rules.area, aspect=rules.aspect)
    image = resize(image[top:top + height, left:left + width], size,
                   rules.train_filter)
    if self.augmentation == 'crop_flip' and rng.random() < 0.5:
      image = image[:, ::-1]
    return preprocess.to_unit(image)

  def test(self, image: np.ndarray) -> np.ndarray:
    """The centre of the picture with its short side at `resize_size`."""
    whole = self.rules.whole_cifar and image.shape[:2] == CIFAR_SIZE
    side = self.crop_size if whole else self.resize_size
    image = resize(image, short_side(*image.shape[:2], side),
                   self.rules.test_filter)
    return preprocess.to_unit(cut_centre(image, self.crop_size))


def create(name: str, *, resize_size: int, crop_size: int, augmentation: str
           ) -> Squeezed | Torchvision:
  """The transform of a name.

  Args:
    name: one of `NAMES`.
    resize_size: pixels before cropping; at least `crop_size`.
    crop_size: side of what the network sees, pixels.
    augmentation: in training, one of `preprocess.AUGMENTATIONS`.

  Returns:
    An object with `train(image, rng)` and `test(image)`.

  Raises:
    ValueError: the name is unknown.
  """
  if name == 'jax':
    return Squeezed(resize_size, crop_size, augmentation)
  if name not in RULES:
    raise ValueError(f'unknown transform {name!r}, have {NAMES}')
  return Torchvision(RULES[name], resize_size, crop_size, augmentation)


def resize(image: np.ndarray, size: tuple[int, int], resample: Image.Resampling
           ) -> np.ndarray:
  """Pillow's resize.

  Args:
    image: uint8 [h, w, 3].
    size: (height, width) of the result.
    resample: filter; it widens with the factor by which a picture shrinks.

  Returns:
    uint8 [height, width, 3], rounded.
  """
  height, width = size
  picture = Image.fromarray(image).resize((width, height), resample)
  return np.asarray(picture)


def short_side(height: int, width: int, size: int) -> tuple[int, int]:
  """(height, width) with the shorter at `size`; the longer is rounded down."""
  if height <= width:
    return size, int(size * width / height)
  return int(size * height / width), size


def cut_centre(image: np.ndarray, size: int) -> np.ndarray:
  """Centre [S, S, 3] of [h, w, 3]; half a pixel goes to the even offset."""
  top, left = (int(round((side - size) / 2)) for side in image.shape[:2])
  return image[top:top + size, left:left + size]


def sample_box(rng: np.random.Generator, height: int, width: int, *,
               area: tuple[float, float], aspect: tuple[float, float]
               ) -> tuple[int, int, int, int]:
  """Draws a crop as torchvision's RandomResizedCrop does.

  Unlike in `preprocess.sample_box` the area is uniform and so is the logarithm
  of the aspect ratio.

  Args:
    rng: NumPy generator.
    height: of the picture, pixels.
    width: of the picture, pixels.
    area: smallest and largest share of the picture that the box covers.
    aspect: smallest and largest width / height.

  Returns:
    (top, left, height, width); the largest centred box of an allowed aspect
    ratio where none fits in `NUM_ATTEMPTS` draws.
  """
  log_low, log_high = math.log(aspect[0]), math.log(aspect[1])
  for _ in range(NUM_ATTEMPTS):
    target = height * width * rng.uniform(*area)
    ratio = math.exp(rng.uniform(log_low, log_high))
    w = round(math.sqrt(target * ratio))
    h = round(math.sqrt(target / ratio))
    if 0 < w <= width and 0 < h <= height:
      top = int(rng.integers(height - h + 1))
      left = int(rng.integers(width - w + 1))
      return top, left, h, w
  return _largest_box(height, width, *aspect)


def _largest_box(height: int, width: int, low: float, high: float
                 ) -> tuple[int, int, int, int]:
  """The centred box that is as large as aspect ratios low to high allow."""
  h = min(height, round(width / low))
  w = min(width, round(height * high))
  return (height - h) // 2, (width - w) // 2, h, w
