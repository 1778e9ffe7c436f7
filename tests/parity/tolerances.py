# SPDX-License-Identifier: Apache-2.0
"""How far a number may be off: the recommended limits of the fixtures.

They leave about a factor of ten over the original's own float32 rounding for
another order of summation (notes of the fixtures, section 4).
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Tolerance:
  """Allowed difference: the sum of three terms.

  Attributes:
    absolute: the same for every element.
    relative: times the size of the element.
    of_max: times the size of the largest element of the array.
  """

  absolute: float = 0.0
  relative: float = 0.0
  of_max: float = 0.0

  def allowed(self, want: np.ndarray) -> np.ndarray:
    """Largest allowed difference of each element."""
    size = np.where(np.isfinite(want), np.abs(want), 0.0)
    largest = np.max(size, initial=0.0)
    return self.absolute + self.relative * size + self.of_max * largest

  def __str__(self) -> str:
    terms = [f'{name} {value:.2g}' for name, value in (
        ('abs', self.absolute), ('rel', self.relative), ('max*', self.of_max))
             if value]
    return ' + '.join(terms) or 'exact'


EXACT = Tolerance()
FEATURES = Tolerance(2e-5)  # query features, pre-logits, logits of one pass
TEMPERATURE = Tolerance(5e-5)  # the same, divided by a temperature
SIMILARITY = Tolerance(2e-6)
TOKENS = Tolerance(1e-4)  # within a pass, and means of many tokens
PORT_LOGITS = Tolerance(4e-5)
PORT_SIMILARITY = Tolerance(3e-6)
PORT_LOSS = Tolerance(2e-5)
PORT_PARAMS = Tolerance(2e-5)
PROJECTION = Tolerance(1e-5)  # F F^T
SCORES = Tolerance(2e-4)  # of principal components
RANDOM_SCORES = Tolerance(1e-3)  # the same, where the original was inexact
RANDOM_PRODUCTS = Tolerance(of_max=2e-3)  # S S^T, likewise
STEP_SIMILARITY = Tolerance(2e-5)
LOSS = Tolerance(1e-4)  # also logits within training
NORM = Tolerance(relative=2e-5)
GRADIENT = Tolerance(1e-5)
READOUT_GRADIENT = Tolerance(5e-5)  # of values to 25
FIRST_MOMENT = Tolerance(of_max=8e-5)
SECOND_MOMENT = Tolerance(of_max=1e-4)
TASK_PARAMS = Tolerance(1e-4)
TASK_MOMENT = Tolerance(relative=5e-5)
TASK_LOSS = Tolerance(5e-5)
TASK_NORM = Tolerance(relative=1e-4)
LOSS_STD = Tolerance(1e-3)
RATE = Tolerance(relative=1e-6)
METRIC = Tolerance(1e-6)  # metrics, probabilities, position tables, pictures
JPEG_EFFECT = Tolerance(1e-5)  # mean, percentile and maximum of differences


def params_after(step: int, base_rate: float) -> Tolerance:
  """Of parameters after `step` steps; the limits hold for rates near 0.01."""
  limit = {1: 1e-6, 2: 2e-6}.get(step, 5e-6)
  return Tolerance(limit * max(1.0, base_rate / 0.02))
