# SPDX-License-Identifier: Apache-2.0
r"""L2P on DomainNet, domain-incremental: 6 domains of the same 345 classes.

  python main.py --my_config configs/domainnet_l2p.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

One head for all domains, as in S-Prompts' comparison; for a head per domain
add `--my_config.continual.domain_outputs=separate`.
"""

from promptcl.configs import cifar100_l2p
from promptcl.configs import presets


def get_config(preset=''):
  """L2P over domains; every task has every class."""
  config = cifar100_l2p.get_config()
  config.dataset = 'domainnet'
  config.continual.scenario = 'domain'
  config.continual.num_tasks = 6
  config.continual.num_classes_per_task = 345
  config.continual.train_mask = False
  return presets.apply(config, preset)
