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
"""IT-Prompt on handwritten digits: five tasks of two classes, no download.

  python main.py --my_config configs/digits_it_prompt.py --workdir DIR

The offline form of `cifar100_it_prompt` on the two towers of
`digits_clip_zeroshot`, which know letters and their names.  Sentences about
digits tell them nothing, so keys need more freedom than real CLIP's to leave
them: larger rates, and anchors that hold less.
"""

from configs import cifar100_it_prompt
from configs import digits_clip_zeroshot
from configs import presets


def get_config(preset=''):
  """Three phases a task, about a minute on a laptop."""
  config = cifar100_it_prompt.get_config()
  offline = digits_clip_zeroshot.get_config()
  for name in ('model_name', 'init_checkpoint', 'dataset', 'input_size',
               'resize_size', 'input_range', 'comparisons'):
    config[name] = offline[name]
  config.transform = 'jax'
  config.augmentation = 'none'
  config.seed = 42
  config.continual.rand_seed = -1
  config.continual.num_tasks = 5
  config.continual.num_classes_per_task = 2
  config.e_prompt_layer_idx = (0, 1, 2)
  config.prompt_pool_param.pool_size = 5
  config.per_device_batch_size = 16
  config.num_epochs = 5
  config.learning_rate = 0.05
  config.min_learning_rate = 0.0
  config.it_prompt.selector_rate = 0.01
  config.it_prompt.anchor = 0.1
  config.it_prompt.classifier_rate = 1.0
  config.it_prompt.align_rate = 0.01
  return presets.apply(config, preset)
