# SPDX-License-Identifier: Apache-2.0
r"""L2P with gradient projection on Split CUB-200, 5 tasks of 40 classes.

  python main.py --my_config configs/cub200_5x40_l2p_pgp.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

See `cifar100_l2p_pgp` for the plain method and the other variant. The official
list of training and test images; the head reads the class token.
"""

from promptcl.configs import cub200_5x40_l2p


def get_config(preset='torch_port'):
  """L2P-PGP, `cub200_l2p_pgp` of the authors."""
  config = cub200_5x40_l2p.get_config(preset)
  config.pgp.enabled = True
  return config
