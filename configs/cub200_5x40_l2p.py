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
r"""L2P on Split CUB-200, 5 tasks of 40 classes.

  python main.py --my_config configs/cub200_5x40_l2p.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

The official list of 5,994 training and 5,794 test images; results on other
divisions are not comparable.  As in L2P-PGP the head reads the class token.
"""

from configs import cifar100_l2p
from configs import presets


def get_config(preset=''):
  """L2P with the settings of L2P-PGP's base."""
  config = cifar100_l2p.get_config()
  config.dataset = 'cub200'
  config.continual.num_tasks = 5
  config.continual.num_classes_per_task = 40
  config.vit_classifier = 'token'
  return presets.apply(config, preset)
