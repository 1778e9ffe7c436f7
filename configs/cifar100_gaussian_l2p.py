# SPDX-License-Identifier: Apache-2.0
r"""L2P on task-agnostic CIFAR-100 with a Gaussian schedule of 200 episodes.

  python main.py --my_config configs/cifar100_gaussian_l2p.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

As released: every episode trains 5 epochs on all images of its classes.  The
paper describes a few batches per episode and reports 88.3 % in the end:
`configs/cifar100_gaussian_l2p.py:paper`.
"""

from promptcl.configs import l2p


def get_config(preset=''):
  """L2P, google-research/l2p `cifar100_gaussian_l2p`."""
  return l2p.get_config(f'cifar100_gaussian,{preset}')
