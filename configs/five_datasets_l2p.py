# SPDX-License-Identifier: Apache-2.0
r"""L2P on 5-datasets: CIFAR-10, MNIST, SVHN, notMNIST, Fashion-MNIST.

  python main.py --my_config configs/five_datasets_l2p.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

The original runs it on 8 devices (batch 128, learning rate 0.015) and reports
81.1 % average accuracy with ViT-B/16 pretrained on ImageNet-21k.

The PyTorch ports take the sets in another order, SVHN first:
`configs/five_datasets_l2p.py:torch_port`.
"""

from promptcl.configs import base
from promptcl.configs import presets


def get_config(preset=''):
  """L2P, google-research/l2p `five_datasets_l2p`."""
  config = base.get_config()
  config.method = 'l2p'
  config.dataset = '5datasets'
  config.continual.scenario = 'dataset'
  config.continual.num_tasks = 5
  config.prompt_pool_param.pool_size = 20
  config.prompt_pool_param.use_prompt_mask = True
  config.prompt_pool_param.shared_prompt_pool = True
  config.pull_constraint_coeff = 0.5
  return presets.apply(config, preset)
