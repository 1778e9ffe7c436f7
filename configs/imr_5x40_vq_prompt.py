# SPDX-License-Identifier: Apache-2.0
r"""VQ-Prompt on Split ImageNet-R, 5 tasks of 40 classes.

  python main.py --my_config configs/imr_5x40_vq_prompt.py --workdir DIR \
    --my_config.init_checkpoint=augreg2_in21k_ft_in1k.safetensors

The authors report 79.2 % average accuracy in the end; see `imr_vq_prompt`.
"""

from promptcl.configs import imr_vq_prompt
from promptcl.configs import presets


def get_config(preset=''):
  """`imr_vq_prompt` in longer tasks."""
  config = imr_vq_prompt.get_config()
  config.continual.num_tasks = 5
  config.continual.num_classes_per_task = 40
  config.freeze_cosine.freeze_steps = 80
  config.freeze_cosine.steps_per_epoch = 80  # there are about 75
  return presets.apply(config, preset)
