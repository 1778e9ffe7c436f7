# SPDX-License-Identifier: Apache-2.0
"""Small stand-ins for data, checkpoints and configs; everything else is real.

config = fakes.config(tmp_path)                   # expanded, L2P, 3 tasks
program, stream = train.prepare(config)
"""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from promptcl.configs import base
from promptcl.models import classifier
from promptcl.models import prompts
from promptcl.models.networks import backbones
from promptcl.models.parts import base as parts
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.startup import startup
from promptcl.train_lib.steps import optimizer as optimizer_lib
from promptcl.train_lib.steps import train_step as steps

VARIANT = 'testing'  # patch 4, width 16, depth 3, 2 heads, MLP 32
IMAGE_SIZE = 8
NUM_PATCHES = 4
NUM_TASKS, CLASSES_PER_TASK = 3, 2
NUM_CLASSES = NUM_TASKS * CLASSES_PER_TASK
STREAM = parts.StreamInfo(NUM_CLASSES, NUM_TASKS)


def write_data(path: pathlib.Path, *, train_per_class: int = 20,
               test_per_class: int = 7, size: int = 10, seed: int = 0) -> str:
  """Writes an .npz data set of coloured noise; returns its config name.

  The mean colour of each class is a corner of the colour cube of its own, so a
  linear head on any random backbone can tell them apart.  The test sets fill
  no batch of 8 images.
  """
  rng = np.random.default_rng(seed)
  corners = [[c + 1 >> bit & 1 for bit in range(3)] for c in range(NUM_CLASSES)]
  colours = 50 + 155 * np.array(corners)[:, None, None]
  names = [f'colour {corner}' for corner in corners]
  arrays = {'class_names': np.array(names)}
  for split, count in (('train', train_per_class), ('test', test_per_class)):
    labels = np.repeat(np.arange(NUM_CLASSES, dtype=np.int32), count)
    noise = rng.normal(0, 12, (labels.size, size, size, 3))
    images = np.clip(colours[labels] + noise, 0, 255).astype(np.uint8)
    arrays |= {f'{split}_images': images, f'{split}_labels': labels}
  np.savez(path, **arrays)
  return f'npz:{path}'


def backbone_arrays(*, variant: str = VARIANT, image_size: int = IMAGE_SIZE,
                    seed: int = 0) -> dict[str, np.ndarray]:
  """Random arrays under our names; also biases and scales are off their start.

  Scaled so that images matter at the output: a fresh ViT almost ignores them.
  """
  return arrays_of(backbones.create(variant, image_size=image_size), seed=seed)


def arrays_of(model: Any, *, seed: int = 0) -> dict[str, np.ndarray]:
  """The same for a backbone that is no named variant."""
  size = model.image_size
  images = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
  shapes = state_lib.flatten(jax.eval_shape(
      model.init, jax.random.key(0), images)['params'])
  rng = np.random.default_rng(seed)
  arrays = {path: rng.normal(0, 0.3, leaf.shape).astype(np.float32)
            for path, leaf in sorted(shapes.items())}
  return {path: array + path.endswith('scale')
          for path, array in arrays.items()}


def published_names(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The same arrays under the names of the published `ViT-*.npz` files."""
  renamed = {}
  for path, array in arrays.items():
    for ours, theirs in (('/LayerNorm_1/', '/LayerNorm_2/'),
                         ('/MlpBlock_0/', '/MlpBlock_3/'),
                         ('Attention_0/', 'Attention_1/')):
      path = path.replace(ours, theirs)
    renamed[path] = array
  return renamed


def write_checkpoint(path: pathlib.Path, **options) -> str:
  """Writes `backbone_arrays` with a head, as published files have one."""
  arrays = backbone_arrays(**options)
  width = arrays['cls'].shape[-1]
  np.savez(path, **arrays, **{'head/kernel': np.ones((width, 21)),
                              'head/bias': np.ones(21)})
  return str(path)


def bare_config(**changes) -> ml_collections.ConfigDict:
  """A tiny recipe; keywords replace keys, `{'continual.num_tasks': 2}` too."""
  config = base.get_config()
  small = {
      'method': 'l2p', 'model_name': VARIANT, 'init_checkpoint': 'random',
      'input_size': IMAGE_SIZE, 'resize_size': 10, 'data_threads': 1,
      'continual.num_tasks': NUM_TASKS,
      'continual.num_classes_per_task': CLASSES_PER_TASK,
      'per_device_batch_size': 1, 'num_epochs': 2, 'eval_per_epochs': 2,
      'learning_rate': 0.3, 'seed': 3, 'prompt_pool_param.pool_size': 4,
      'prompt_pool_param.length': 2, 'prompt_pool_param.top_k': 2,
      **prompts.small_options()}
  nullable = {**small, **changes}
  config.init_checkpoint = nullable.pop('init_checkpoint')
  config.update_from_flattened_dict(nullable)
  return config


# Small runs of methods, as these offer them.
DUALPROMPT, IT_PROMPT, CONVPROMPT, VQ_PROMPT, PGT = map(prompts.small, (
    'dualprompt', 'it_prompt', 'convprompt', 'vq_prompt', 'pgt'))

MERGES = pathlib.Path(__file__).parents[1] / 'models/merges.txt'
CLIP_PROMPTS = {
    'method': 'vpt', 'model_name': 'CLIP-testing', 'init_checkpoint': 'random',
    'text.tokenizer': str(MERGES), 'text.context_tokens': 4, 'vpt.length': 3,
    'use_e_prompt': False, 'vit_classifier': 'token', 'head': 'sentences',
    'optim': 'sgd', 'sgd_nesterov': False, 'gradient_decay': 0.05,
    'later_gradient_decay': 0.02, 'later_rate_multipliers': (('.*', 3.0),),
    'learning_rate_schedule': 'cosine_by_epoch', 'grad_clip_max_norm': 0.0,
    'grad_clip_scope': 'trainable', 'eval_classes': 'seen',
    'eval_until_own_task': True}


def config(folder: pathlib.Path | None = None, **changes
           ) -> ml_collections.FrozenConfigDict:
  """Expanded tiny config; with `folder`, data and weights are written there."""
  if folder is not None:
    changes = {'dataset': write_data(folder / 'data.npz'),
               'init_checkpoint': write_checkpoint(folder / 'vit.npz'),
               **changes}
  return startup.expand(bare_config(**changes))


def changed(expanded: Any, **changes) -> ml_collections.FrozenConfigDict:
  """An expanded config with some keys replaced."""
  copy = ml_collections.ConfigDict(expanded).copy_and_resolve_references()
  copy.update_from_flattened_dict(changes)
  return startup.expand(copy)


def tiny_model(expanded: Any) -> tuple[classifier.PromptedClassifier, Any]:
  """Model and method of a config, for `NUM_CLASSES` classes."""
  backbone = backbones.create(
      expanded.model_name, image_size=expanded.input_size,
      dtype=jnp.dtype(expanded.dtype))
  return classifier.build(expanded, STREAM, backbone)


def random_params(model: Any, *, seed: int = 0, image_size: int = IMAGE_SIZE
                  ) -> dict[str, np.ndarray]:
  """Flat random parameters of the whole model, head and prompts included."""
  shapes = state_lib.shapes(
      state_lib.random_params(model, image_size=image_size))
  rng = np.random.default_rng(seed)
  return {path: rng.normal(0, 0.3, leaf.shape).astype(np.float32)
                + path.endswith('scale')
          for path, leaf in sorted(shapes.items())}


def start(expanded: Any) -> tuple[Any, Any, Any, dict[str, np.ndarray], Any]:
  """(model, method, optimizer, frozen, state) with random parameters."""
  model, method = tiny_model(expanded)
  optimizer = optimizer_lib.create(expanded, method.transform)
  frozen, trainable = state_lib.partition(
      random_params(model), expanded.freeze_part, expanded.thaw,
      query_pass=bool(model.prompt.query_needs))
  return (model, method, optimizer, frozen,
          state_lib.create(trainable, method, optimizer))


def batch(count: int, *, seed: int = 0, size: int = IMAGE_SIZE
          ) -> dict[str, np.ndarray]:
  """One host batch of noise images in [0, 1)."""
  rng = np.random.default_rng(seed)
  return {'image': rng.random((count, size, size, 3), np.float32),
          'label': rng.integers(0, NUM_CLASSES, count).astype(np.int32),
          'mask': np.ones(count, np.float32)}


def task_info(index: int = 0, *, classes: Any = range(NUM_CLASSES),
              steps_per_epoch: int = 5) -> steps.TaskInfo:
  """A task that starts at step 0 and sees `classes`."""
  mask = np.isin(np.arange(NUM_CLASSES), list(classes))
  return steps.TaskInfo.create(index, mask, first_step=0,
                               steps_per_epoch=steps_per_epoch)
