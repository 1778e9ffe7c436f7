# SPDX-License-Identifier: Apache-2.0
r"""L2P on task-agnostic CIFAR-100 with a Gaussian schedule of 200 episodes.

  python main.py --my_config configs/cifar100_gaussian_l2p.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

As released: every episode trains 5 epochs on all images of its classes.  The
paper describes a few batches per episode and reports 88.3 % in the end:
`configs/cifar100_gaussian_l2p.py:paper`.
"""

from promptcl.configs import base
from promptcl.configs import presets


def get_config(preset=''):
  """L2P, google-research/l2p `cifar100_gaussian_l2p`."""
  config = base.get_config()
  config.method = 'l2p'
  config.dataset = 'cifar100'
  config.gaussian_schedule = True
  config.continual.num_tasks = 200
  config.continual.num_classes_per_task = 100
  config.reinit_optimizer = False
  config.prompt_pool_param.length = 5
  config.prompt_pool_param.top_k = 5
  config.pull_constraint_coeff = 0.1
  return presets.apply(config, preset)
