# SPDX-License-Identifier: Apache-2.0
r"""DualPrompt on Split ImageNet-R, 20 tasks of 10 classes.

  python main.py --my_config configs/imr_20x10_dualprompt.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

VQ-Prompt's table has 67.9 % average accuracy for DualPrompt,
with weights fine-tuned on ImageNet-1k and CODA-Prompt's division of the
images.
"""

from promptcl.configs import imr_dualprompt
from promptcl.configs import presets


def get_config(preset=''):
  """`imr_dualprompt` in shorter tasks."""
  config = imr_dualprompt.get_config()
  config.continual.num_tasks = 20
  config.continual.num_classes_per_task = 10
  config.prompt_pool_param.pool_size = 20  # one per task: they are masked
  return presets.apply(config, preset)
