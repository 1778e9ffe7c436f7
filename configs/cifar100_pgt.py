# SPDX-License-Identifier: Apache-2.0
r"""PGT on Split CIFAR-100, 10 tasks of 10 classes.

  python main.py --my_config configs/cifar100_pgt.py --workdir DIR \
    --my_config.init_checkpoint=B_16-i21k.npz

ViT-B/16 of AugReg, ImageNet-21k, on one device with batch 128.  The authors
published neither settings nor a table; docs/pgt.md says what was decided.
"""

import random

from promptcl.configs import base
from promptcl.configs import presets

NORMS = r'backbone/.*(LayerNorm_\d|encoder_norm)/.*'


def get_config(preset=''):
  """PGT with the settings of ConvPrompt, whose code it grew from."""
  config = base.get_config()
  config.method = 'pgt'
  config.model_name = 'DeiT-B_16'  # exact GELU
  config.dataset = 'cifar100'
  config.transform = 'torch_port'
  config.continual.class_order = class_order()
  config.thaw = (NORMS,)
  config.vit_classifier = 'token'
  config.task_heads = True
  config.head_init = 'trunc_normal'
  config.use_e_prompt = False
  config.per_device_batch_size = 128
  config.num_epochs = 10
  config.eval_per_epochs = 0  # at task ends only
  config.eval_classes = 'seen'
  config.learning_rate = 0.005
  config.learning_rate_schedule = 'cosine_by_epoch'
  config.later_rate_multipliers = (
      (NORMS, 0.005), ('prompt/naive_norm/.*', 0.005))
  config.grad_clip_scope = 'trainable'
  return presets.apply(config, preset)


def class_order():
  """The authors' list: seed 42 of Python's generator, shuffled three times."""
  order, generator = list(range(100)), random.Random(42)
  for _ in range(3):
    generator.shuffle(order)
  return tuple(order)
