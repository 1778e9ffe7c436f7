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
r"""L2P on CORe50 evaluated cleanly: 8 sessions of the same 50 objects.

  python main.py --my_config configs/core50_clean_l2p.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

The backbone is frozen and every test image is scored once as it is, which
`core50_l2p` (the original) does not do; the two are not comparable.
"""

from configs import core50_l2p
from configs import presets


def get_config(preset=''):
  """`core50_l2p` with a frozen backbone."""
  config = core50_l2p.get_config()
  config.optim = 'adam'
  config.freeze_part = ('encoder', 'embedding', 'cls')
  config.eval_per_epochs = 0  # at task ends only
  return presets.apply(config, preset)
