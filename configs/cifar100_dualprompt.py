# SPDX-License-Identifier: Apache-2.0
r"""DualPrompt on Split CIFAR-100, 10 tasks of 10 classes.

  python main.py --my_config configs/cifar100_dualprompt.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

The original runs it on 8 devices (batch 192, learning rate 0.0225) and reports
86.5 % average accuracy with ViT-B/16 pretrained on ImageNet-21k.
"""

from promptcl.configs import dualprompt


def get_config(preset=''):
  """DualPrompt, google-research/l2p `cifar100_dualprompt`."""
  return dualprompt.get_config(f'cifar100,{preset}')
