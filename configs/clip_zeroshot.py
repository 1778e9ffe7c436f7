# SPDX-License-Identifier: Apache-2.0
r"""CLIP's zero-shot classifier: nothing is trained.

  python main.py --my_config configs/clip_zeroshot.py:STREAM --workdir DIR \
    --my_config.init_checkpoint=clip-vit-base-patch16

Without a stream it is cifar100.  After task t the classes of tasks 0 to t
compete.  The floor that a method on the same backbone must rise above.
docs/clip.md says how to get weights and tokenizer.
"""

from promptcl.configs import base
from promptcl.configs import presets
from promptcl.configs import streams

PUBLISHED = {
    'cifar100': "66.95 % for OpenAI's ViT-B/16 and 64.23 % for ViT-B/32 "
                '(--my_config.model_name=CLIP-B_32): OpenCLIP\'s table of '
                'results, with all 100 classes',
}
ON = {}


def get_config(selection=''):
  """Sentences about classes against images, 18 templates."""
  stream, preset = streams.select(selection)
  config = base.get_config()
  config.method = 'zero_shot'
  config.model_name = 'CLIP-B_16'
  config.transform = 'clean'  # bicubic, as CLIP's own
  config.resize_size = 224
  config.input_range = 'clip'
  config.per_device_batch_size = 64
  config.use_e_prompt = False
  config.vit_classifier = 'query'
  config.head = 'cosine'
  config.freeze_part = ('encoder', 'embedding', 'cls', 'head')
  config.eval_classes = 'seen'
  streams.lay(config, stream, ON)
  return presets.apply(config, preset)
