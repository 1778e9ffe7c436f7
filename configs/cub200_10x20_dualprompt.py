# SPDX-License-Identifier: Apache-2.0
r"""DualPrompt on Split CUB-200, 10 tasks of 20 classes.

  python main.py --my_config configs/cub200_10x20_dualprompt.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

A published common protocol has 66.0 % average accuracy for DualPrompt
(ViT-B/16, ImageNet-21k).
"""

from promptcl.configs import cub200_5x40_dualprompt
from promptcl.configs import presets


def get_config(preset=''):
  """`cub200_5x40_dualprompt` in shorter tasks."""
  config = cub200_5x40_dualprompt.get_config()
  config.continual.num_tasks = 10
  config.continual.num_classes_per_task = 20
  return presets.apply(config, preset)
