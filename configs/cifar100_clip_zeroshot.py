# SPDX-License-Identifier: Apache-2.0
r"""CLIP's zero-shot classifier on Split CIFAR-100, 10 tasks of 10 classes.

  python main.py --my_config configs/cifar100_clip_zeroshot.py --workdir DIR \
    --my_config.init_checkpoint=clip-vit-base-patch16

Nothing is trained: after task t the classes of tasks 0 to t compete.  The floor
that a method on the same backbone must rise above.  docs/clip.md says how to
get weights and tokenizer.  With all 100 classes OpenCLIP's table of results
gives 66.95 % for OpenAI's ViT-B/16 and 64.23 % for ViT-B/32
(`--my_config.model_name=CLIP-B_32`).
"""

from promptcl.configs import base
from promptcl.configs import presets


def get_config(preset=''):
  """Sentences about classes against images, 18 templates."""
  config = base.get_config()
  config.method = 'zero_shot'
  config.model_name = 'CLIP-B_16'
  config.dataset = 'cifar100'
  config.transform = 'clean'  # bicubic, as CLIP's own
  config.resize_size = 224
  config.input_range = 'clip'
  config.per_device_batch_size = 64
  config.use_e_prompt = False
  config.vit_classifier = 'query'
  config.head = 'cosine'
  config.freeze_part = ('encoder', 'embedding', 'cls', 'head')
  config.eval_classes = 'seen'
  return presets.apply(config, preset)
