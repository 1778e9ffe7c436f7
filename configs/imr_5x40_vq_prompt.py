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
r"""VQ-Prompt on Split ImageNet-R, 5 tasks of 40 classes.

  python main.py --my_config configs/imr_5x40_vq_prompt.py --workdir DIR \
    --my_config.init_checkpoint=augreg2_in21k_ft_in1k.safetensors

The authors report 79.2 % average accuracy in the end; see `imr_vq_prompt`.
"""

from configs import imr_vq_prompt
from configs import presets


def get_config(preset=''):
  """`imr_vq_prompt` in longer tasks."""
  config = imr_vq_prompt.get_config()
  config.continual.num_tasks = 5
  config.continual.num_classes_per_task = 40
  config.freeze_cosine.freeze_steps = 80
  config.freeze_cosine.steps_per_epoch = 80  # there are about 75
  return presets.apply(config, preset)
