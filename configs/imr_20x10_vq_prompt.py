# SPDX-License-Identifier: Apache-2.0
r"""VQ-Prompt on Split ImageNet-R, 20 tasks of 10 classes.

  python main.py --my_config configs/imr_20x10_vq_prompt.py --workdir DIR \
    --my_config.init_checkpoint=augreg2_in21k_ft_in1k.safetensors

The authors report 78.1 % average accuracy in the end; see `imr_vq_prompt`.
"""

from promptcl.configs import imr_vq_prompt
from promptcl.configs import presets


def get_config(preset=''):
  """`imr_vq_prompt` in shorter tasks."""
  config = imr_vq_prompt.get_config()
  config.continual.num_tasks = 20
  config.continual.num_classes_per_task = 10
  config.freeze_cosine.freeze_steps = 20
  config.freeze_cosine.steps_per_epoch = 20  # there are about 18
  return presets.apply(config, preset)
