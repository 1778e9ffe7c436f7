# SPDX-License-Identifier: Apache-2.0
r"""IT-Prompt without text: prototypes of classes choose.

  python main.py --my_config configs/it_prompt_vision.py:STREAM \
    --workdir DIR --my_config.init_checkpoint=ibot_21k.npz

Without a stream it is cifar100.  For iBOT-21k, iBOT-1k, DINO-1k and MoCo-1k:
`tools/convert_weights.py` makes their files readable.  Prototypes of classes,
mean directions of their training images, take the place of sentences.
"""

from promptcl.configs import it_prompt
from promptcl.configs import presets
from promptcl.configs import streams

PUBLISHED = {}
ON = {}


def get_config(selection=''):
  """`it_prompt` with prototypes, a linear head and no zero-shot."""
  stream, preset = streams.select(selection)
  config = it_prompt.get_config(stream)
  config.model_name = 'DeiT-B_16'  # exact GELU
  config.input_range = 'imagenet'
  config.freeze_part = ('encoder', 'embedding', 'cls')
  config.head = 'linear'
  config.it_prompt.modality = 'vision'
  config.it_prompt.text_guide = 0.1
  config.zero_shot.measure = False
  streams.adjust(config, stream, ON)
  return presets.apply(config, preset)
