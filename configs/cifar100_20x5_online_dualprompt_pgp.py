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
r"""DualPrompt with gradient projection on Split CIFAR-100, 20 tasks, online.

  python main.py --my_config configs/cifar100_20x5_online_dualprompt_pgp.py \
    --workdir DIR --my_config.init_checkpoint=ViT-B_16.npz

One pass over the images.
"""

from configs import cifar100_20x5_dualprompt_pgp


def get_config(preset='torch_port'):
  """`cifar100_20x5_dualprompt_pgp` in one pass."""
  config = cifar100_20x5_dualprompt_pgp.get_config(preset)
  config.num_epochs = 1
  return config
