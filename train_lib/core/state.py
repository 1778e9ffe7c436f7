# SPDX-License-Identifier: Apache-2.0
"""Train state, and the split of parameters into frozen and trainable.

Parameters are flat dictionaries `{'backbone/cls': array, ...}`.  The pristine
pretrained tree is kept once, in `frozen`; `TrainState.params` holds the leaves
that train and lies over it (`overlay`).  The query pass reads `frozen` alone.
"""

from collections.abc import Callable, Iterable, Mapping
import hashlib
import re
from typing import TypeVar

import flax
from flax import traverse_util
import flax.linen as nn
import jax
import numpy as np
import optax

from promptcl.models.parts import base
from promptcl.train_lib.core.parallel import PyTree

Array = jax.Array
FlatParams = Mapping[str, Array]
Draw = Callable[[Array], dict[str, Array]]
Variables = dict[str, PyTree]  # what flax modules take
T = TypeVar('T')  # an array or its shape


@flax.struct.dataclass
class TrainState:
  """All that training changes.

  Attributes:
    step: [] int32, counts over all tasks; the only clock.
    params: the trainable leaves.
    opt_state: of the current task's optimizer.
    memory: the method's arrays that outlive a task.
  """

  step: Array
  params: FlatParams
  opt_state: optax.OptState
  memory: PyTree


def flatten(tree: PyTree) -> dict[str, Array]:
  """Nested tree -> `{slash path: leaf}`."""
  return traverse_util.flatten_dict(tree, sep='/')


def variables(params: FlatParams) -> Variables:
  """Flat parameters -> what `module.apply` takes."""
  return {'params': traverse_util.unflatten_dict(dict(params), sep='/')}


def overlay(frozen: FlatParams, trainable: FlatParams) -> dict[str, Array]:
  """Parameters of the prompted pass: trainable leaves over frozen ones."""
  return {**frozen, **trainable}


def original_path(path: str) -> str:
  """The leaf's path in google-research/l2p, with a leading slash.

  `freeze_part` and `optim_wd_ignore` name parts of these paths.
  """
  top, _, rest = path.partition('/')
  return '/' + (path if top == 'head' else rest)


def trainable_paths(paths: Iterable[str], freeze_part: Iterable[str],
                    thaw: Iterable[str] = ()) -> set[str]:
  """Leaves whose original path contains no string of `freeze_part`.

  Args:
    paths: slash paths of all leaves.
    freeze_part: parts of original paths.
    thaw: regexes over whole slash paths of leaves that train all the same.

  Raises:
    ValueError: a string of `freeze_part` or a regex of `thaw` matches no path.
  """
  originals = {path: original_path(path) for path in paths}
  for part in freeze_part:
    if not any(part in original for original in originals.values()):
      raise ValueError(f'freeze_part {part!r} matches no parameter')
  for rule in thaw:
    if not any(re.fullmatch(rule, path) for path in originals):
      raise ValueError(f'thaw {rule!r} matches no parameter')
  return {path for path, original in originals.items()
          if not any(part in original for part in freeze_part)
          or any(re.fullmatch(rule, path) for rule in thaw)}


def initial_params(draw: Draw, backbone_params: PyTree, *, seed: int
                   ) -> dict[str, Array]:
  """Fresh prompt and head beside the pretrained backbone.

  Args:
    draw: of the model, from `random_params`.
    backbone_params: pretrained tree, or None for random weights.
    seed: of the start values.

  Returns:
    Flat parameters of the whole model, float32.
  """
  def init(rng):
    return {path: leaf for path, leaf in draw(rng).items()
            if backbone_params is None or not path.startswith('backbone/')}

  params = jax.jit(init)(jax.random.key(seed))
  if backbone_params is not None:
    params = {**flatten({'backbone': backbone_params}), **params}
  return params


def random_params(model: nn.Module, *, image_size: int) -> Draw:
  """-> `draw(rng)`, flat parameters of the whole `PromptedClassifier`.

  JAX traces it once, for whatever is asked of it: shapes (`shapes`), parts or
  all.
  """
  def init(rng):
    images = jax.numpy.zeros((1, image_size, image_size, 3))
    query, _ = model.init_with_output(rng, images, method='query')
    params = model.init(rng, images, query, jax.numpy.int32(0), train=False)
    return flatten(params['params'])

  return jax.jit(init)


def shapes(draw: Draw) -> dict[str, jax.ShapeDtypeStruct]:
  """Flat shapes of all parameters, without computing anything."""
  return jax.eval_shape(draw, jax.random.key(0))


def checksum(params: FlatParams) -> str:
  """SHA-256 over names, types, shapes and bytes of all leaves."""
  digest = hashlib.sha256()
  for path in sorted(params):
    leaf = np.ascontiguousarray(params[path])
    digest.update(f'{path} {leaf.dtype} {leaf.shape} '.encode())
    digest.update(leaf.tobytes())
  return digest.hexdigest()


def partition(params: Mapping[str, T], freeze_part: Iterable[str],
              thaw: Iterable[str] = (), *, query_pass: bool
              ) -> tuple[dict[str, T], dict[str, T]]:
  """Splits parameters into (frozen, trainable).

  Args:
    params: flat parameters of the whole model.
    freeze_part, thaw: see `trainable_paths`.
    query_pass: whether the method has one; if so the pristine copy of a
      backbone leaf that trains is kept for it.

  Returns:
    Frozen leaves (pristine backbone included), trainable leaves.
  """
  trains = trainable_paths(params, freeze_part, thaw)
  frozen = {k: v for k, v in params.items()
            if k not in trains or (query_pass and k.startswith('backbone/'))}
  return frozen, {k: params[k] for k in sorted(trains)}


def create(trainable: FlatParams, method: base.Method,
           optimizer: optax.GradientTransformation) -> TrainState:
  """State before the first step."""
  trainable = dict(trainable)
  return TrainState(np.zeros((), np.int32), trainable,
                    optimizer.init(trainable), method.memory(trainable))


def with_new_optimizer(state: TrainState,
                       optimizer: optax.GradientTransformation) -> TrainState:
  """Forgets the moments and their counter; everything else goes on."""
  return state.replace(opt_state=optimizer.init(state.params))
