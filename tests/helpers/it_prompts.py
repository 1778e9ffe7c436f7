# SPDX-License-Identifier: Apache-2.0
"""A tiny data set, a random CLIP and a recipe for tests of IT-Prompt."""

import pathlib

import numpy as np

from promptcl import configs
from promptcl.models.networks import clip
from promptcl.train_lib.startup import startup
from tests.helpers import fakes
from tests.helpers import weights

VARIANT = 'CLIP-testing'
MERGES = pathlib.Path(__file__).parents[1] / 'models/merges.txt'
SMALL = {
    'model_name': VARIANT, 'input_size': 8, 'resize_size': 8,
    'per_device_batch_size': 1, 'data_threads': 1, 'continual.num_tasks': 3,
    'continual.num_classes_per_task': 2, 'text.tokenizer': str(MERGES),
    'e_prompt_layer_idx': (0, 1), 'prompt_pool_param.pool_size': 3,
    'num_epochs': 2, 'learning_rate': 0.3, 'it_prompt.selector_batch': 16,
    'it_prompt.selector_epochs': 2, 'it_prompt.align_epochs': 2,
    'it_prompt.align_draws': 16, 'it_prompt.selector_rate': 0.3,
    'it_prompt.classifier_rate': 1.0, 'it_prompt.align_rate': 0.3,
    'text.templates': ('a photo of the {}.', 'a {} cat', '{}')}


def write_inputs(folder: pathlib.Path) -> dict[str, str]:
  """Writes data and weights of which images and classes differ."""
  arrays = fakes.backbone_arrays(variant=VARIANT, seed=4)
  arrays['embedding/kernel'] *= 5
  arrays['embedding_scale'] = np.float32(3.0)
  return {'dataset': fakes.write_data(folder / 'data.npz'),
          'init_checkpoint': weights.write_hugging_face(
              folder / 'clip', arrays, clip.VARIANTS[VARIANT])}


def config(inputs, recipe='it_prompt', **changes):
  """The expanded and checked recipe, small, with some keys replaced."""
  found = configs.load(recipe)
  changes = {**SMALL, **inputs, **changes}
  found.init_checkpoint = changes.pop('init_checkpoint')
  found.update_from_flattened_dict(changes)
  found = startup.expand(found)
  startup.check(found)
  return found
