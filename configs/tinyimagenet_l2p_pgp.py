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
r"""L2P with gradient projection on Split TinyImageNet, 10 tasks of 20 classes.

  python main.py --my_config configs/tinyimagenet_l2p_pgp.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

See `cifar100_l2p_pgp` for the plain method and the other variant.
"""

from configs import tinyimagenet_l2p


def get_config(preset='torch_port'):
  """L2P-PGP, `tinyimagenet_l2p_pgp` of the authors."""
  config = tinyimagenet_l2p.get_config(preset)
  config.seed = 52
  config.pgp.enabled = True
  return config
