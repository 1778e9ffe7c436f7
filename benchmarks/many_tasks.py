# SPDX-License-Identifier: Apache-2.0
"""Whether memory grows with the number of tasks.

  python -m benchmarks.many_tasks --tasks 200 --every 20

Runs a real stream of tiny tasks with the `testing` ViT in a folder that is
thrown away: data reading, training, evaluation of all sets so far, checkpoints
and events after each task.  Prints what the process holds every so many tasks.
What must grow is small and known: counts of all evaluations, the query features
of each test image, and a weak reference per evaluated set that Grain keeps.
"""

import argparse
from collections.abc import Callable, Iterator
import contextlib
import ctypes
import dataclasses
import gc
import pathlib
import tempfile
import threading

import jax
import ml_collections
import numpy as np

from promptcl.configs import base
from promptcl.train_lib import program as program_lib
from promptcl.train_lib import train
from promptcl.train_lib.startup import startup

CLASSES_PER_TASK = 2
_COMPILED = '/jax/core/compile/backend_compile_duration'


@dataclasses.dataclass(frozen=True)
class Sample:
  """What the process holds after a task, garbage collected.

  Attributes:
    tasks: how many are trained.
    resident: MiB in memory, all of the process.
    arrays: live arrays on the devices.
    array_bytes: in them.
    objects: that Python's garbage collector follows.
    threads: of Python.
    compilations: by XLA so far.
  """

  tasks: int
  resident: float
  arrays: int
  array_bytes: int
  objects: int
  threads: int
  compilations: int


def make_config(num_tasks: int, folder: pathlib.Path, **changes: object
                ) -> ml_collections.FrozenConfigDict:
  """A tiny run; writes its data to `folder`."""
  config = base.get_config()
  config.update_from_flattened_dict({
      'method': 'l2p', 'model_name': 'testing', 'input_size': 8,
      'resize_size': 10, 'dataset': write_data(folder / 'data.npz', num_tasks),
      'continual.num_tasks': num_tasks,
      'continual.num_classes_per_task': CLASSES_PER_TASK,
      'per_device_batch_size': 4, 'num_epochs': 1, 'data_threads': 1,
      'grad_clip_scope': 'trainable', 'prompt_pool_param.pool_size': 4,
      'prompt_pool_param.length': 2, 'prompt_pool_param.top_k': 2, **changes})
  config.init_checkpoint = program_lib.RANDOM
  expanded = startup.expand(config)
  startup.check(expanded)
  return expanded


def write_data(path: pathlib.Path, num_tasks: int) -> str:
  """Noise: 8 training images and 1 test image per class; its config name."""
  rng = np.random.default_rng(0)
  arrays = {}
  for split, count in ('train', 8), ('test', 1):
    labels = np.repeat(np.arange(num_tasks * CLASSES_PER_TASK), count)
    shape = (labels.size, 10, 10, 3)
    arrays |= {f'{split}_labels': labels,
               f'{split}_images': rng.integers(0, 256, shape, np.uint8)}
  np.savez(path, **arrays)
  return f'npz:{path}'


@contextlib.contextmanager
def compilations() -> Iterator[list[float]]:
  """Seconds of each compilation by XLA while the context is open."""
  seconds: list[float] = []

  def note(event, duration, **unused):
    if event == _COMPILED:
      seconds.append(duration)

  jax.monitoring.register_event_duration_secs_listener(note)
  try:
    yield seconds
  finally:
    jax.monitoring.unregister_event_duration_listener(note)


def measure(config: ml_collections.ConfigDict, workdir: pathlib.Path,
            every: int, *, tell: Callable[[Sample], object] = lambda _: None,
            trim: bool = False) -> list[Sample]:
  """Trains and evaluates all tasks; samples from a hook after a task's steps.

  Args:
    config: from `make_config`.
    workdir: of the run, made here.
    every: tasks between samples.
    tell: is given each sample at once.
    trim: give free memory back before each sample, glibc only.
  """
  samples = []
  with compilations() as compiled:

    def end_task(state, task_index, probe):
      del probe
      if (task_index + 1) % every == 0:
        if trim:
          ctypes.CDLL(None).malloc_trim(0)
        samples.append(sample(task_index + 1, len(compiled)))
        tell(samples[-1])
      return state

    program, stream = train.prepare(config)
    program = dataclasses.replace(
        program, method=program.method.with_part(end_task=end_task))
    workdir.mkdir()
    train.train_and_evaluate(program, stream, str(workdir))
  return samples


def sample(tasks: int, num_compilations: int) -> Sample:
  """What this process holds now."""
  gc.collect()
  arrays = jax.live_arrays()
  return Sample(tasks, resident_bytes() / 2**20, len(arrays),
                sum(array.nbytes for array in arrays), len(gc.get_objects()),
                threading.active_count(), num_compilations)


def resident_bytes() -> int:
  """Of this process; Linux only."""
  pages = int(pathlib.Path('/proc/self/statm').read_text().split()[1])
  return pages * 4096


def main(argv: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--tasks', type=int, default=200)
  parser.add_argument('--every', type=int, default=20)
  parser.add_argument(
      '--trim', action='store_true', help='have the C library give free memory '
      'back first, which tells what is held from what is kept for reuse')
  options = parser.parse_args(argv)
  print(f'{"tasks":>6}{"MiB":>9}{"arrays":>8}{"KiB":>8}{"objects":>10}'
        f'{"threads":>9}{"compiled":>10}', flush=True)

  def tell(s):
    print(f'{s.tasks:6}{s.resident:9.1f}{s.arrays:8}{s.array_bytes / 1024:8.0f}'
          f'{s.objects:10}{s.threads:9}{s.compilations:10}', flush=True)

  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    config = make_config(options.tasks, folder)
    measure(config, folder / 'run', options.every, tell=tell,
            trim=options.trim)


if __name__ == '__main__':
  main()
