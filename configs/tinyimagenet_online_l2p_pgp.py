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
r"""L2P with gradient projection on Split TinyImageNet, online.

  python main.py --my_config configs/tinyimagenet_online_l2p_pgp.py \
    --workdir DIR --my_config.init_checkpoint=ViT-B_16.npz

One pass over the images, with the seed that the authors give for it.
"""

from configs import tinyimagenet_l2p_pgp


def get_config(preset='torch_port'):
  """`tinyimagenet_l2p_pgp` in one pass."""
  config = tinyimagenet_l2p_pgp.get_config(preset)
  config.seed = 50
  config.num_epochs = 1
  return config
