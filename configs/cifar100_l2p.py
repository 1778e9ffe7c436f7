# SPDX-License-Identifier: Apache-2.0
r"""L2P on Split CIFAR-100, 10 tasks of 10 classes.

  python main.py --my_config configs/cifar100_l2p.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

The original runs it on 8 devices (batch 128, learning rate 0.015) and reports
83.8 % average accuracy with ViT-B/16 pretrained on ImageNet-21k.
"""

from promptcl.configs import l2p


def get_config(preset=''):
  """L2P, google-research/l2p `cifar100_l2p`."""
  return l2p.get_config(f'cifar100,{preset}')
