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
r"""DualPrompt on CIFAR-100, 50 classes first and then 10 a task: 6 tasks.

  python main.py --my_config configs/cifar100_b50_inc10_dualprompt.py \
    --workdir DIR --my_config.init_checkpoint=ViT-B_16.npz

LAMDA-PILOT and LibContinual know the cut as B50-inc10; for B50-inc5 add
`--my_config.continual.inc_cls=5`.
"""

from configs import cifar100_dualprompt
from configs import presets


def get_config(preset=''):
  """`cifar100_dualprompt` with a large first task."""
  config = cifar100_dualprompt.get_config()
  config.continual.init_cls = 50
  config.continual.inc_cls = 10
  config.continual.num_tasks = 6
  return presets.apply(config, preset)
