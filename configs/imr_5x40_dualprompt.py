# SPDX-License-Identifier: Apache-2.0
r"""DualPrompt on Split ImageNet-R, 5 tasks of 40 classes.

  python main.py --my_config configs/imr_5x40_dualprompt.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

VQ-Prompt's table has 73.1 % average accuracy for DualPrompt,
with weights fine-tuned on ImageNet-1k and CODA-Prompt's division of the
images.
"""

from promptcl.configs import imr_dualprompt
from promptcl.configs import presets


def get_config(preset=''):
  """`imr_dualprompt` in longer tasks."""
  config = imr_dualprompt.get_config()
  config.continual.num_tasks = 5
  config.continual.num_classes_per_task = 40
  return presets.apply(config, preset)
