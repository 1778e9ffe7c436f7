# SPDX-License-Identifier: Apache-2.0
r"""PGT on DomainNet, domain-incremental: 6 domains of the same 345 classes.

  python main.py --my_config configs/domainnet_pgt.py --workdir DIR \
    --my_config.init_checkpoint=B_16-i21k.npz

Every domain has 345 outputs of its own; see docs/pgt.md.
"""

from promptcl.configs import cifar100_pgt
from promptcl.configs import presets


def get_config(preset=''):
  """`cifar100_pgt` over domains."""
  config = cifar100_pgt.get_config()
  config.dataset = 'domainnet'
  config.transform = 'torchvision'
  config.continual.scenario = 'domain'
  config.continual.domain_outputs = 'separate'
  config.continual.num_tasks = 6
  config.continual.num_classes_per_task = 345
  config.continual.class_order = ()
  return presets.apply(config, preset)
