# SPDX-License-Identifier: Apache-2.0
r"""L2P with gradient projection on Split CIFAR-100, 20 tasks of 5 classes.

  python main.py --my_config configs/cifar100_20x5_l2p_pgp.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

See `cifar100_l2p_pgp` for the plain method and the other variant.
"""

from promptcl.configs import cifar100_20x5_l2p


def get_config(preset='torch_port'):
  """L2P-PGP, `cifar100_20_l2p_pgp` of the authors."""
  config = cifar100_20x5_l2p.get_config(preset)
  config.seed = 53
  config.pgp.enabled = True
  return config
