# SPDX-License-Identifier: Apache-2.0
r"""IT-Prompt without text on Split CIFAR-100, 10 tasks of 10 classes.

  python main.py --my_config configs/cifar100_it_prompt_vision.py \
    --workdir DIR --my_config.init_checkpoint=ibot_21k.npz

For iBOT-21k, iBOT-1k, DINO-1k and MoCo-1k: `tools/convert_weights.py` makes
their files readable.  Prototypes of classes, mean directions of their training
images, take the place of sentences.
"""

from promptcl.configs import cifar100_it_prompt
from promptcl.configs import presets


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
