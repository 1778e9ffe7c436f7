# SPDX-License-Identifier: Apache-2.0
r"""ConvPrompt on Split CUB-200, 10 tasks of 20 classes.

  python main.py --my_config configs/cub200_convprompt.py --workdir DIR \
    --my_config.init_checkpoint=B_16-i21k.npz

The authors report 80.2 % average accuracy with ViT-B/16 of AugReg on
ImageNet-21k.
"""

from promptcl.configs import cifar100_convprompt
from promptcl.configs import presets


def get_config(preset=''):
  """`cifar100_convprompt` with small batches and many epochs."""
  config = cifar100_convprompt.get_config()
  config.dataset = 'cub200'
  config.continual.num_classes_per_task = 20
  config.per_device_batch_size = 24
  config.num_epochs = 60
  config.learning_rate = 0.001
  return presets.apply(config, preset)
