# SPDX-License-Identifier: Apache-2.0
r"""DualPrompt on Split CIFAR-100, 10 tasks of 10 classes.

  python main.py --my_config configs/cifar100_dualprompt.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

The original runs it on 8 devices (batch 192, learning rate 0.0225) and reports
86.5 % average accuracy with ViT-B/16 pretrained on ImageNet-21k.
"""

from promptcl.configs import base
from promptcl.configs import presets


def get_config(preset=''):
  """DualPrompt, google-research/l2p `cifar100_dualprompt`."""
  config = base.get_config()
  config.method = 'dualprompt'
  config.dataset = 'cifar100'
  config.per_device_batch_size = 24
  config.vit_classifier = 'token'
  config.use_g_prompt = True
  config.g_prompt_length = 5
  config.g_prompt_layer_idx = (0, 1)
  config.use_prefix_tune_for_g_prompt = True
  config.e_prompt_layer_idx = (2, 3, 4)
  config.use_prefix_tune_for_e_prompt = True
  config.prompt_pool_param.pool_size = 10
  config.prompt_pool_param.length = 5
  config.prompt_pool_param.top_k = 1
  config.prompt_pool_param.use_prompt_mask = True
  config.prompt_pool_param.shared_prompt_pool = True
  return presets.apply(config, preset)
