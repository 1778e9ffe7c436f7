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
r"""IT-Prompt on Split CUB-200, 10 tasks of 20 classes, CLIP ViT-B/16.

  python main.py --my_config configs/cub200_it_prompt.py --workdir DIR \
    --my_config.init_checkpoint=clip-vit-base-patch16

As `cifar100_it_prompt`; the sentences are about birds.  Seeds are 0, 12, 24, 36
and 48.
"""

from configs import cifar100_it_prompt
from configs import presets


def get_config(preset=''):
  """`cifar100_it_prompt` on the official lists."""
  config = cifar100_it_prompt.get_config()
  config.dataset = 'cub200'
  config.continual.num_classes_per_task = 20
  return presets.apply(config, preset)
