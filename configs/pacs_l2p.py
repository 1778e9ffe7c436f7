# SPDX-License-Identifier: Apache-2.0
r"""L2P on PACS, domain-incremental: 4 styles of the same 7 classes.

  python main.py --my_config configs/pacs_l2p.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

Takes an `npz:` file with domains, or a folder of a folder per domain:
`--my_config.dataset=folder:PACS`.
"""

from promptcl.configs import cifar100_l2p
from promptcl.configs import presets


def get_config(preset=''):
  """L2P over styles; every task has every class."""
  config = cifar100_l2p.get_config()
  config.dataset = 'npz:pacs.npz'
  config.continual.scenario = 'domain'
  config.continual.num_tasks = 4
  config.continual.num_classes_per_task = 7
  config.continual.train_mask = False
  return presets.apply(config, preset)
