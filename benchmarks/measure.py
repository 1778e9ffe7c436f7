# SPDX-License-Identifier: Apache-2.0
"""Measures one compiled step with random weights and random images.

  python -m benchmarks.measure '{"recipe": "cifar100_l2p", ...}'

prints one line of JSON (`measure` names all keys).  One process measures one
case, so that its peak memory is its own; `accelerator.py` measures many in one.
Needs no TensorFlow, no data, and of the libraries only jax, flax, optax and
ml_collections with what they bring.
"""

from collections.abc import Callable
import dataclasses
import importlib
import importlib.util
import json
import math
import sys
import time
from typing import Any

import flax
import jax
import ml_collections
import numpy as np

from benchmarks import memory
from benchmarks import products
from promptcl import configs
from promptcl.models.networks import backbones
from promptcl.models.parts import base
from promptcl.train_lib import program as program_lib
from promptcl.train_lib.core import parallel
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.core.parallel import PyTree
from promptcl.train_lib.startup import startup
from promptcl.train_lib.steps import eval_step
from promptcl.train_lib.steps import train_step as steps

Case = dict[str, Any]  # what a row was asked for, and its figures
Start = tuple[state_lib.FlatParams, state_lib.TrainState]
NUM_CLASSES = 100
CLASSES_PER_TASK = 10


@dataclasses.dataclass
class Step:
  """A compiled step that can be run again and again.

  Attributes:
    compiled: takes `args`.
    args: on the devices.
    carries: it returns its new first argument and takes the old one.
    compile_seconds: tracing included, no cache.
    products: FLOPs of one device's matrix products, see `products.count`.
    out: of the last run.
  """

  compiled: jax.stages.Compiled
  args: tuple[PyTree, ...]
  carries: bool
  compile_seconds: float
  products: int
  out: PyTree = None

  def run(self, count: int) -> tuple[float, float]:
    """Wall and CPU seconds of one step, mean over `count`.

    Steps are handed to the device one after the other; the clock stops when
    the last is done.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
      self.out = self.compiled(*self.args)
      if self.carries:
        self.args = (self.out[0], *self.args[1:])
    jax.block_until_ready(self.out)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return wall / count, cpu / count

  def check(self) -> None:
    """Refuses what no step should return.

    Raises:
      FloatingPointError: an output of the last run is not finite.
    """
    for leaf in jax.tree.leaves(self.out):
      if not np.isfinite(np.asarray(leaf, np.float32)).all():
        raise FloatingPointError('a step with random weights is not finite')


@flax.struct.dataclass
class LossOnly:
  """Stands in for the training metrics where CLU is not installed."""

  loss: jax.Array

  @classmethod
  def gather_from_model_output(cls, *, axis_name: str, loss: jax.Array, **_
                               ) -> 'LossOnly':
    return cls(jax.lax.all_gather(loss, axis_name))


def make_config(case: Case) -> ml_collections.FrozenConfigDict:
  """The recipe's config with model, size, batch, scope and dtype of the case.

  A scope of None leaves what the recipe says.  Layers that the model does not
  have (the `testing` variant has three) are taken out of the recipe.
  """
  recipe = configs.load(case['recipe'])
  recipe.init_checkpoint = program_lib.RANDOM
  recipe.model_name = case['model']
  recipe.input_size = recipe.resize_size = case['image_size']
  recipe.per_device_batch_size = case['batch']
  if case['scope']:
    recipe.grad_clip_scope = case['scope']
  recipe.dtype = case['dtype']
  depth = backbones.VARIANTS[case['model']].depth
  for key in 'e_prompt_layer_idx', 'g_prompt_layer_idx':
    recipe[key] = tuple(layer for layer in recipe[key] if layer < depth)
  layers = recipe.generation.layers
  recipe.generation.layers = tuple(layer for layer in layers if layer < depth)
  recipe.update_from_flattened_dict(case.get('changes', {}))
  config = startup.expand(recipe)
  startup.check(config)
  return config


def make_batch(config: ml_collections.ConfigDict) -> dict[str, jax.Array]:
  """Random images and labels of one task, on the devices: [n, B, ...]."""
  rng = np.random.default_rng(config.seed)
  count = config.per_device_batch_size * jax.local_device_count()
  size = config.input_size
  batch = dict(
      image=rng.random((count, size, size, 3), np.float32),
      label=rng.integers(CLASSES_PER_TASK, size=count, dtype=np.int32),
      mask=np.ones(count, np.float32))
  return next(parallel.prefetch([batch]))


def make_step(phase: str, program: program_lib.Program,
              start: Start | None = None
              ) -> tuple[jax.stages.Wrapped, tuple[PyTree, ...]]:
  """A pmapped step and its arguments on the devices; compiles the start only.

  Args:
    phase: `train` (on images, in the phase of a task that does so), `query`
      (the features that evaluation computes once a run), `eval` (with the query
      given, without `compare`) or `sentences` (what a head that reads sentences
      computes once an evaluation, given to `eval`).
    program: with random weights.
    start: what `program.start()` returned, if it is known; compiles nothing.

  Raises:
    ValueError: no such phase.
  """
  config, model, batch = program.config, program.model, make_batch(
      program.config)
  frozen, state = map(parallel.replicate, start or program.start())
  info = steps.TaskInfo.create(
      0, np.arange(NUM_CLASSES) < CLASSES_PER_TASK, first_step=0,
      steps_per_epoch=1)
  if phase == 'train':
    del batch['mask']
    return (parallel.pmap(make_train_step(program), in_axes=(0, 0, 0, None),
                          donate_argnums=0),
            (state, frozen, batch, info))
  sentences = None
  if model.reads_sentences:
    sentences = parallel.pmap(eval_step.make_class_vectors(model))
  if phase == 'sentences' and sentences:
    return sentences, (state, frozen)
  query = parallel.pmap(steps.make_query(model))
  if phase == 'query':
    return query, (frozen, batch['image'])
  if phase == 'eval':
    competing, compare = np.ones(NUM_CLASSES, bool), np.bool_(False)
    return (parallel.pmap(eval_step.make_eval_step(config, model),
                          in_axes=(0, 0, 0, 0, None, None, None, 0)),
            (state, frozen, batch, query(frozen, batch['image']), info,
             competing, compare, sentences and sentences(state, frozen)))
  raise ValueError(f'{config.method} has no phase {phase!r}')


def make_train_step(program: program_lib.Program
                    ) -> Callable[..., tuple[state_lib.TrainState, PyTree]]:
  """The train step of the phase that learns from images."""
  kinds = program.method.learning
  kind = next((k for k, v in kinds.items() if v.loss is None), '')
  learning = kinds.get(kind, base.PLAIN)
  config = program_lib.config_of(program.config, learning)
  bare = importlib.util.find_spec('clu') is None
  return steps.make_train_step(
      config, program.model, program.method,
      program_lib.optimizer_of(config, program.method), learning=learning,
      global_batch_size=config.per_device_batch_size * jax.device_count(),
      **(dict(metrics=LossOnly) if bare else {}))


def compile_step(case: Case, start: Start | None = None) -> Step:
  """Compiles one case; see `measure` and `make_step`."""
  # Reading a cache would hide the compile time.
  jax.config.update('jax_enable_compilation_cache', False)
  step, args = make_step(
      case['phase'], program_lib.create(make_config(case), NUM_CLASSES), start)
  jax.block_until_ready(args)
  started = time.perf_counter()
  flops = products.count(jax.make_jaxpr(step)(*args).jaxpr)
  compiled = step.lower(*args).compile()  # does not trace again
  return Step(compiled, args, case['phase'] == 'train',
              time.perf_counter() - started, flops)


def num_steps(case: Case, step: Step) -> int:
  """How many to time: `steps`, or more to fill `seconds`; runs one or two."""
  step.run(1)
  if not case.get('seconds'):
    return case['steps']
  return max(case['steps'], math.ceil(case['seconds'] / step.run(1)[0]))


def measure(case: Case) -> Case:
  """Compiles and runs one case.

  Args:
    case: recipe, phase, scope, dtype, model, image_size, batch (per device),
      steps (timed); optionally seconds, to be filled with more steps, and
      changes, of other keys.

  Returns:
    See `row`.
  """
  return row(case, compile_step(case))


def row(case: Case, step: Step) -> Case:
  """Runs a compiled case.

  Returns:
    The case with `images_per_second` (all devices), `seconds_per_step`,
    `cpu_seconds_per_step` (of this process, all threads), `compile_seconds`
    (tracing included, no cache), `flops_per_image`, `temp_bytes` and
    `planned_bytes` (XLA's, of one device; None where it does not say),
    `product_flops_per_image` (`products.count`), `peak_bytes` and `peak_of`.
  """
  steps_timed = num_steps(case, step)
  wall, cpu = step.run(steps_timed)
  step.check()
  peak_bytes, peak_of = memory.peak()
  planned = step.compiled.memory_analysis()
  flops = (step.compiled.cost_analysis() or {}).get('flops')
  device = jax.local_devices()[0]
  return {
      **case, 'steps': steps_timed, 'device': device.device_kind,
      'platform': device.platform, 'num_devices': jax.device_count(),
      'jax': jax.__version__,
      'images_per_second': case['batch'] * jax.device_count() / wall,
      'seconds_per_step': wall, 'cpu_seconds_per_step': cpu,
      'compile_seconds': step.compile_seconds,
      'flops_per_image': flops and flops / case['batch'],
      'product_flops_per_image': step.products / case['batch'],
      'temp_bytes': planned and planned.temp_size_in_bytes,
      'planned_bytes': planned and memory.total(planned),
      'peak_bytes': peak_bytes, 'peak_of': peak_of}


if __name__ == '__main__':
  print(json.dumps(measure(json.loads(sys.argv[1]))))
