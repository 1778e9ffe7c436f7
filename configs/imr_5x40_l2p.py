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
r"""L2P on Split ImageNet-R, 5 tasks of 40 classes.

  python main.py --my_config configs/imr_5x40_l2p.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

VQ-Prompt's table has 70.8 % average accuracy for a prefix variant of L2P,
with weights fine-tuned on ImageNet-1k and CODA-Prompt's division of the
images.
"""

from configs import imr_l2p
from configs import presets


def get_config(preset=''):
  """`imr_l2p` in longer tasks."""
  config = imr_l2p.get_config()
  config.continual.num_tasks = 5
  config.continual.num_classes_per_task = 40
  return presets.apply(config, preset)
