# SPDX-License-Identifier: Apache-2.0
r"""IT-Prompt on Split ImageNet-R, 10 tasks of 20 classes, CLIP ViT-B/16.

  python main.py --my_config configs/imr_it_prompt.py --workdir DIR \
    --my_config.init_checkpoint=clip-vit-base-patch16

As `cifar100_it_prompt`, with batches of 64.  For 5 tasks of 40 classes add
  --my_config.continual.num_tasks=5 \
  --my_config.continual.num_classes_per_task=40
"""

from promptcl.configs import cifar100_it_prompt
from promptcl.configs import presets


def get_config(preset=''):
  """`cifar100_it_prompt` at the same rates with half the batch."""
  config = cifar100_it_prompt.get_config()
  config.dataset = 'imagenet_r'
  config.continual.num_classes_per_task = 20
  config.per_device_batch_size = 64
  config.learning_rate = 0.05
  config.min_learning_rate = 4e-6
  return presets.apply(config, preset)
