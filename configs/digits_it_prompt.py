# SPDX-License-Identifier: Apache-2.0
"""IT-Prompt on handwritten digits: five tasks of two classes, no download.

  python main.py --my_config configs/digits_it_prompt.py --workdir DIR

The offline form of `it_prompt` on the two towers of
`digits_clip_zeroshot`, which know letters and their names.  Sentences about
digits tell them nothing, so keys need more freedom than real CLIP's to leave
them: larger rates, and anchors that hold less.
"""

from promptcl.configs import digits_clip_zeroshot
from promptcl.configs import it_prompt
from promptcl.configs import presets


def get_config(preset=''):
  """Three phases a task, about a minute on a laptop."""
  config = it_prompt.get_config()
  offline = digits_clip_zeroshot.get_config()
  for name in ('model_name', 'init_checkpoint', 'dataset', 'input_size',
               'resize_size', 'input_range', 'comparisons'):
    config[name] = offline[name]
  config.transform = 'jax'
  config.augmentation = 'none'
  config.seed = 42
  config.continual.rand_seed = -1
  config.continual.num_tasks = 5
  config.continual.num_classes_per_task = 2
  config.e_prompt_layer_idx = (0, 1, 2)
  config.prompt_pool_param.pool_size = 5
  config.per_device_batch_size = 16
  config.num_epochs = 5
  config.learning_rate = 0.05
  config.min_learning_rate = 0.0
  config.it_prompt.selector_rate = 0.01
  config.it_prompt.anchor = 0.1
  config.it_prompt.classifier_rate = 1.0
  config.it_prompt.align_rate = 0.01
  return presets.apply(config, preset)
