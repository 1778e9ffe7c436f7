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
r"""L2P on DomainNet, class-incremental: 5 tasks of 69 classes.

  python main.py --my_config configs/domainnet_5x69_l2p.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

All domains at once, the cut of CODA-Prompt, which itself reports 73.2 %
average accuracy on it.
"""

from configs import cifar100_l2p
from configs import presets


def get_config(preset=''):
  """`cifar100_l2p` on 345 classes."""
  config = cifar100_l2p.get_config()
  config.dataset = 'domainnet'
  config.continual.num_tasks = 5
  config.continual.num_classes_per_task = 69
  return presets.apply(config, preset)
