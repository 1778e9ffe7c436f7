# SPDX-License-Identifier: Apache-2.0
"""L2P on handwritten digits: five tasks of two classes, no download.

  python main.py --my_config configs/digits_l2p.py --workdir DIR

scikit-learn's bundled digits behind a tiny ViT that was pretrained on letters
(models/weights/letters_vit.npz).  A laptop needs about a minute; the table at
the end sets L2P beside a frozen backbone with a head, its nearest class mean
and sequential fine-tuning.
"""

import pathlib

from promptcl.configs import base
from promptcl.configs import presets

WEIGHTS = pathlib.Path(__file__).parents[1] / 'models/weights/letters_vit.npz'


def get_config(preset=''):
  """The offline default."""
  config = base.get_config()
  config.method = 'l2p'
  config.model_name = 'ViT-digits'
  config.init_checkpoint = str(WEIGHTS)
  config.dataset = 'digits'
  config.input_size = 32
  config.resize_size = 36
  config.augmentation = 'none'
  config.continual.num_tasks = 5
  config.continual.num_classes_per_task = 2
  config.per_device_batch_size = 16
  config.num_epochs = 3
  config.eval_per_epochs = 0  # at task ends only
  config.grad_clip_scope = 'trainable'
  # One prompt per task, chosen at test time by its key and image by image.
  config.prompt_pool_param.pool_size = 5
  config.prompt_pool_param.top_k = 1
  config.prompt_pool_param.length = 8
  config.prompt_pool_param.use_prompt_mask = True
  config.prompt_pool_param.batchwise_prompt = False
  config.comparisons = ('class_mean', 'frozen', 'finetune')
  return presets.apply(config, preset)
