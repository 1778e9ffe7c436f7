# SPDX-License-Identifier: Apache-2.0
r"""IT-Prompt on Split CUB-200, 10 tasks of 20 classes, CLIP ViT-B/16.

  python main.py --my_config configs/cub200_it_prompt.py --workdir DIR \
    --my_config.init_checkpoint=clip-vit-base-patch16

As `cifar100_it_prompt`; the sentences are about birds.  Seeds are 0, 12, 24, 36
and 48.
"""

from promptcl.configs import cifar100_it_prompt
from promptcl.configs import presets


def get_config(preset=''):
  """`cifar100_it_prompt` on the official lists."""
  config = cifar100_it_prompt.get_config()
  config.dataset = 'cub200'
  config.continual.num_classes_per_task = 20
  return presets.apply(config, preset)
