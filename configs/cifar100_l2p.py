# Copyright 2026 The JAX Continual Prompting Authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
r"""L2P on Split CIFAR-100, 10 tasks of 10 classes.

  python main.py --my_config configs/cifar100_l2p.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

The original runs it on 8 devices (batch 128, learning rate 0.015) and reports
83.8 % average accuracy with ViT-B/16 pretrained on ImageNet-21k.
"""

from configs import base
from configs import presets


def get_config(preset=''):
  """L2P, google-research/l2p `cifar100_l2p`."""
  config = base.get_config()
  config.method = 'l2p'
  config.dataset = 'cifar100'
  config.prompt_pool_param.pool_size = 10
  config.prompt_pool_param.length = 10
  config.prompt_pool_param.top_k = 4
  return presets.apply(config, preset)
