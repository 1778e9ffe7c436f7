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
r"""PGT on DomainNet, domain-incremental: 6 domains of the same 345 classes.

  python main.py --my_config configs/domainnet_pgt.py --workdir DIR \
    --my_config.init_checkpoint=B_16-i21k.npz

Every domain has 345 outputs of its own; see docs/pgt.md.
"""

from configs import cifar100_pgt
from configs import presets


def get_config(preset=''):
  """`cifar100_pgt` over domains."""
  config = cifar100_pgt.get_config()
  config.dataset = 'domainnet'
  config.transform = 'torchvision'
  config.continual.scenario = 'domain'
  config.continual.domain_outputs = 'separate'
  config.continual.num_tasks = 6
  config.continual.num_classes_per_task = 345
  config.continual.class_order = ()
  return presets.apply(config, preset)
