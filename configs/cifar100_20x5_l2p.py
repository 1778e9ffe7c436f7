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
r"""L2P on Split CIFAR-100, 20 tasks of 5 classes.

  python main.py --my_config configs/cifar100_20x5_l2p.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

Published re-runs give 80.1 to 81.5 % average accuracy (ViT-B/16,
ImageNet-21k).
"""

from configs import cifar100_l2p
from configs import presets


def get_config(preset=''):
  """`cifar100_l2p` in shorter tasks."""
  config = cifar100_l2p.get_config()
  config.continual.num_tasks = 20
  config.continual.num_classes_per_task = 5
  return presets.apply(config, preset)
