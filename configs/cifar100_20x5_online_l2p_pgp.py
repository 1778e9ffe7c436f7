# SPDX-License-Identifier: Apache-2.0
r"""L2P with gradient projection on Split CIFAR-100, 20 tasks, online.

  python main.py --my_config configs/cifar100_20x5_online_l2p_pgp.py \
    --workdir DIR --my_config.init_checkpoint=ViT-B_16.npz

One pass over the images, with the seed that the authors give for it.
"""

from promptcl.configs import cifar100_20x5_l2p_pgp


def get_config(preset='torch_port'):
  """`cifar100_20x5_l2p_pgp` in one pass."""
  config = cifar100_20x5_l2p_pgp.get_config(preset)
  config.seed = 42
  config.num_epochs = 1
  return config
