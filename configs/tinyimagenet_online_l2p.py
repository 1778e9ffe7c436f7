# SPDX-License-Identifier: Apache-2.0
r"""L2P on Split TinyImageNet, online: each image is seen once.

  python main.py --my_config configs/tinyimagenet_online_l2p.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz
"""

from promptcl.configs import presets
from promptcl.configs import tinyimagenet_l2p


def get_config(preset=''):
  """`tinyimagenet_l2p` in one pass."""
  config = tinyimagenet_l2p.get_config()
  config.num_epochs = 1
  return presets.apply(config, preset)
