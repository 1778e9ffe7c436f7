# SPDX-License-Identifier: Apache-2.0
r"""L2P on Split CIFAR-100, 20 tasks of 5 classes.

  python main.py --my_config configs/cifar100_20x5_l2p.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

Published re-runs give 80.1 to 81.5 % average accuracy (ViT-B/16,
ImageNet-21k).
"""

from promptcl.configs import cifar100_l2p
from promptcl.configs import presets


def get_config(preset=''):
  """`cifar100_l2p` in shorter tasks."""
  config = cifar100_l2p.get_config()
  config.continual.num_tasks = 20
  config.continual.num_classes_per_task = 5
  return presets.apply(config, preset)
