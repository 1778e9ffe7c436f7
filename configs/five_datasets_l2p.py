# SPDX-License-Identifier: Apache-2.0
r"""L2P on 5-datasets: CIFAR-10, MNIST, SVHN, notMNIST, Fashion-MNIST.

  python main.py --my_config configs/five_datasets_l2p.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

The original runs it on 8 devices (batch 128, learning rate 0.015) and reports
81.1 % average accuracy with ViT-B/16 pretrained on ImageNet-21k.

The PyTorch ports take the sets in another order, SVHN first:
`configs/five_datasets_l2p.py:torch_port`.
"""

from promptcl.configs import l2p


def get_config(preset=''):
  """L2P, google-research/l2p `five_datasets_l2p`."""
  return l2p.get_config(f'five_datasets,{preset}')
