# SPDX-License-Identifier: Apache-2.0
r"""ConvPrompt on Split ImageNet-R, 10 tasks of 20 classes.

  python main.py --my_config configs/imr_convprompt.py --workdir DIR \
    --my_config.init_checkpoint=B_16-i21k.npz

The authors report 77.9 % average accuracy with ViT-B/16 of AugReg on
ImageNet-21k.
"""

from promptcl.configs import cifar100_convprompt
from promptcl.configs import presets


def get_config(preset=''):
  """`cifar100_convprompt` without clipping."""
  config = cifar100_convprompt.get_config()
  config.seed = 1993
  config.dataset = 'imagenet_r'
  config.continual.num_classes_per_task = 20
  config.grad_clip_max_norm = 0.0
  return presets.apply(config, preset)
