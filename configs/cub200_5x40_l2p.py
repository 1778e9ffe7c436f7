# SPDX-License-Identifier: Apache-2.0
r"""L2P on Split CUB-200, 5 tasks of 40 classes.

  python main.py --my_config configs/cub200_5x40_l2p.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

The official list of 5,994 training and 5,794 test images; results on other
divisions are not comparable.  As in L2P-PGP the head reads the class token.
"""

from promptcl.configs import cifar100_l2p
from promptcl.configs import presets


def get_config(preset=''):
  """L2P with the settings of L2P-PGP's base."""
  config = cifar100_l2p.get_config()
  config.dataset = 'cub200'
  config.continual.num_tasks = 5
  config.continual.num_classes_per_task = 40
  config.vit_classifier = 'token'
  return presets.apply(config, preset)
