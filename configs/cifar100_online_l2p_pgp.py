# SPDX-License-Identifier: Apache-2.0
r"""L2P with gradient projection on Split CIFAR-100, online: one pass.

  python main.py --my_config configs/cifar100_online_l2p_pgp.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

Tasks and their borders are those of the usual 10 x 10 cut.
"""

from promptcl.configs import cifar100_l2p_pgp


def get_config(preset='torch_port'):
  """`cifar100_l2p_pgp` in one pass."""
  config = cifar100_l2p_pgp.get_config(preset)
  config.num_epochs = 1
  return config
