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
r"""IT-Prompt without text on Split CIFAR-100, 10 tasks of 10 classes.

  python main.py --my_config configs/cifar100_it_prompt_vision.py \
    --workdir DIR --my_config.init_checkpoint=ibot_21k.npz

For iBOT-21k, iBOT-1k, DINO-1k and MoCo-1k: `tools/convert_weights.py` makes
their files readable.  Prototypes of classes, mean directions of their training
images, take the place of sentences.
"""

from configs import cifar100_it_prompt
from configs import presets


def get_config(preset=''):
  """`cifar100_it_prompt` with prototypes, a linear head and no zero-shot."""
  config = cifar100_it_prompt.get_config()
  config.model_name = 'DeiT-B_16'  # exact GELU
  config.input_range = 'imagenet'
  config.freeze_part = ('encoder', 'embedding', 'cls')
  config.head = 'linear'
  config.it_prompt.modality = 'vision'
  config.it_prompt.text_guide = 0.1
  config.zero_shot.measure = False
  return presets.apply(config, preset)
