# SPDX-License-Identifier: Apache-2.0
r"""VQ-Prompt on Split ImageNet-R, 10 tasks of 20 classes.

  python main.py --my_config configs/imr_vq_prompt.py --workdir DIR \
    --my_config.init_checkpoint=augreg2_in21k_ft_in1k.safetensors

Weights and batches as in `cifar100_vq_prompt`, 64 images each.  The authors
report 78.7 % average accuracy in the end, on CODA-Prompt's division of the
images (`split_files`) and its numbering of the classes.
"""

from promptcl.configs import cifar100_vq_prompt
from promptcl.configs import presets


def get_config(preset=''):
  """`cifar100_vq_prompt` with smaller batches."""
  config = cifar100_vq_prompt.get_config()
  config.dataset = 'imagenet_r'
  config.continual.num_classes_per_task = 20
  config.per_device_batch_size = 64
  config.learning_rate = 0.0025 * 256 / 64
  config.min_learning_rate = 1e-6 * 256 / 64
  config.freeze_cosine.freeze_steps = 40
  config.freeze_cosine.steps_per_epoch = 40  # there are about 37
  return presets.apply(config, preset)
