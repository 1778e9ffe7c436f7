# SPDX-License-Identifier: Apache-2.0
r"""L2P on Split TinyImageNet, 10 tasks of 20 classes.

  python main.py --my_config configs/tinyimagenet_l2p.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

The labelled validation images are the test.
"""

from promptcl.configs import cifar100_l2p
from promptcl.configs import presets


def get_config(preset=''):
  """`cifar100_l2p` on 200 classes."""
  config = cifar100_l2p.get_config()
  config.dataset = 'tinyimagenet'
  config.continual.num_classes_per_task = 20
  return presets.apply(config, preset)
