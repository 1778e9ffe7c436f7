# SPDX-License-Identifier: Apache-2.0
r"""L2P with gradient projection on Split TinyImageNet, online.

  python main.py --my_config configs/tinyimagenet_online_l2p_pgp.py \
    --workdir DIR --my_config.init_checkpoint=ViT-B_16.npz

One pass over the images, with the seed that the authors give for it.
"""

from promptcl.configs import tinyimagenet_l2p_pgp


def get_config(preset='torch_port'):
  """`tinyimagenet_l2p_pgp` in one pass."""
  config = tinyimagenet_l2p_pgp.get_config(preset)
  config.seed = 50
  config.num_epochs = 1
  return config
