# SPDX-License-Identifier: Apache-2.0
r"""DualPrompt on DomainNet, class-incremental: 5 tasks of 69 classes.

  python main.py --my_config configs/domainnet_5x69_dualprompt.py \
    --workdir DIR --my_config.init_checkpoint=ViT-B_16.npz

All domains at once, the cut of CODA-Prompt, which itself reports 73.2 %
average accuracy on it.
"""

from promptcl.configs import cifar100_dualprompt
from promptcl.configs import presets


def get_config(preset=''):
  """`cifar100_dualprompt` on 345 classes."""
  config = cifar100_dualprompt.get_config()
  config.dataset = 'domainnet'
  config.continual.num_tasks = 5
  config.continual.num_classes_per_task = 69
  return presets.apply(config, preset)
