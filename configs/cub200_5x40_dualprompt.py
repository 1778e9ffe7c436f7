# SPDX-License-Identifier: Apache-2.0
r"""DualPrompt on Split CUB-200, 5 tasks of 40 classes.

  python main.py --my_config configs/cub200_5x40_dualprompt.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

The official list of 5,994 training and 5,794 test images.  PGP's table has
82.0 % average accuracy and 4.2 forgetting (ViT-B/16, ImageNet-21k).
"""

from promptcl.configs import cifar100_dualprompt
from promptcl.configs import presets


def get_config(preset=''):
  """DualPrompt with the settings of DualPrompt-PGP's base."""
  config = cifar100_dualprompt.get_config()
  config.dataset = 'cub200'
  config.continual.num_tasks = 5
  config.continual.num_classes_per_task = 40
  config.num_epochs = 10
  return presets.apply(config, preset)
