# SPDX-License-Identifier: Apache-2.0
r"""DualPrompt on Split CIFAR-100, online: each image is seen once.

  python main.py --my_config configs/cifar100_online_dualprompt.py \
    --workdir DIR --my_config.init_checkpoint=ViT-B_16.npz

Tasks and their borders are those of the usual 10 x 10 cut.
"""

from promptcl.configs import cifar100_dualprompt
from promptcl.configs import presets


def get_config(preset=''):
  """`cifar100_dualprompt` in one pass."""
  config = cifar100_dualprompt.get_config()
  config.num_epochs = 1
  return presets.apply(config, preset)
