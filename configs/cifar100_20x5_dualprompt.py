# SPDX-License-Identifier: Apache-2.0
r"""DualPrompt on Split CIFAR-100, 20 tasks of 5 classes.

  python main.py --my_config configs/cifar100_20x5_dualprompt.py \
    --workdir DIR --my_config.init_checkpoint=ViT-B_16.npz

Published re-runs give 82.0 to 83.0 % average accuracy (ViT-B/16,
ImageNet-21k), with a pool of 10, in which the last tasks find no prompts of
their own.
"""

from promptcl.configs import cifar100_dualprompt
from promptcl.configs import presets


def get_config(preset=''):
  """`cifar100_dualprompt` in shorter tasks."""
  config = cifar100_dualprompt.get_config()
  config.continual.num_tasks = 20
  config.continual.num_classes_per_task = 5
  config.prompt_pool_param.pool_size = 20  # one per task: they are masked
  return presets.apply(config, preset)
