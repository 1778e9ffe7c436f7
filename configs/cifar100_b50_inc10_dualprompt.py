# SPDX-License-Identifier: Apache-2.0
r"""DualPrompt on CIFAR-100, 50 classes first and then 10 a task: 6 tasks.

  python main.py --my_config configs/cifar100_b50_inc10_dualprompt.py \
    --workdir DIR --my_config.init_checkpoint=ViT-B_16.npz

LAMDA-PILOT and LibContinual know the cut as B50-inc10; for B50-inc5 add
`--my_config.continual.inc_cls=5`.
"""

from promptcl.configs import cifar100_dualprompt
from promptcl.configs import presets


def get_config(preset=''):
  """`cifar100_dualprompt` with a large first task."""
  config = cifar100_dualprompt.get_config()
  config.continual.init_cls = 50
  config.continual.inc_cls = 10
  config.continual.num_tasks = 6
  return presets.apply(config, preset)
