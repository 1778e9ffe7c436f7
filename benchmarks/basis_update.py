# SPDX-License-Identifier: Apache-2.0
"""Time and memory of a basis update of gradient projection at ViT-B/16.

  python -m benchmarks.basis_update

One line per step of what happens between two tasks on the host, in float64, at
the sizes of the released code (768 images, width 768, float32 inputs): products
of images (the Gram matrix) and their eigenvectors instead of a singular value
decomposition of 768 x 150,528, the growth of a basis, and for the variant
`paper` the eigenvectors of a second moment.  `beside` is the most memory that a
step needs beside its inputs.  Forward passes are not in it.
"""

import argparse
from collections.abc import Callable
import resource
import time
import tracemalloc

import numpy as np

from promptcl.train_lib.around import subspace

WIDTH = 768
# Name, columns, components, epsilon, as in the released code.
SPACES = (('tokens', 196 * WIDTH, 9, 0.5), ('keys', WIDTH, 5, 0.97),
          ('prefix, one layer', 197 * WIDTH, 50, 0.5))


def inputs(columns: int, rng: np.random.Generator) -> np.ndarray:
  """Float32 [768, columns] with a decaying spectrum and a mean."""
  basis = rng.normal(size=(WIDTH, 64)).astype(np.float32)
  basis *= np.arange(1, 65, dtype=np.float32)**-0.5
  rows = basis @ rng.normal(size=(64, columns)).astype(np.float32)
  rows += np.float32(3.0)
  return rows


def timed(function: Callable[..., object], *args: object, **options: object
          ) -> tuple[object, float, float, float]:
  """(result, wall seconds, CPU seconds, MiB that NumPy took beside inputs)."""
  tracemalloc.start()
  wall, cpu = time.perf_counter(), time.process_time()
  result = function(*args, **options)
  wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
  peak = tracemalloc.get_traced_memory()[1] / 2**20
  tracemalloc.stop()
  return result, wall, cpu, peak


def main(argv: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.parse_args(argv)
  rng = np.random.default_rng(0)
  print(f'{"step":<44}{"wall s":>8}{"CPU s":>8}{"inputs MiB":>12}'
        f'{"beside MiB":>12}')

  def tell(step, size, wall, cpu, peak):
    print(f'{step:<44}{wall:8.2f}{cpu:8.2f}{size / 2**20:12.0f}{peak:12.0f}',
          flush=True)

  for name, columns, components, epsilon in SPACES:
    rows, basis = inputs(columns, rng), None
    for task in range(2):
      sums, *spent = timed(subspace.scores, rows, components)
      tell(f'{name}, task {task}: scores', rows.nbytes, *spent)
      basis, *spent = timed(subspace.grow, basis, sums, epsilon)
      tell(f'{name}, task {task}: growth to rank {basis.shape[1]}',
           sums.nbytes, *spent)
  moment = np.cov(inputs(4 * WIDTH, rng))
  grown, *spent = timed(
      subspace.grow_by_moment, np.zeros((WIDTH, 0)), moment, 0.5)
  tell(f'paper, any space: growth to rank {grown.shape[1]}', moment.nbytes,
       *spent)
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
  print(f'peak of the process {peak:.0f} MiB')


if __name__ == '__main__':
  main()
