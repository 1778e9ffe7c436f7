# SPDX-License-Identifier: Apache-2.0
r"""PGT: prompts that are generated for each image.

  python main.py --my_config configs/pgt.py:STREAM --workdir DIR \
    --my_config.init_checkpoint=B_16-i21k.npz

Without a stream it is cifar100.  ViT-B/16 of AugReg, ImageNet-21k, on one
device with batch 128.  The authors published neither settings nor a table;
docs/pgt.md says what was decided.

On imr classes are in ascending order and nothing is clipped; on cub200 they are
shuffled with the seed of the run; on domainnet every domain has 345 outputs of
its own.
"""

import random

from promptcl.configs import base
from promptcl.configs import presets
from promptcl.configs import streams

NORMS = r'backbone/.*(LayerNorm_\d|encoder_norm)/.*'


def _class_order():
  """The authors' list: seed 42 of Python's generator, shuffled three times."""
  order, generator = list(range(100)), random.Random(42)
  for _ in range(3):
    generator.shuffle(order)
  return tuple(order)


PUBLISHED = {}
ON = {
    'cifar100': {'continual.class_order': _class_order()},
    'imr': {'grad_clip_max_norm': 0.0},
    'cub200': {
        'continual.order_rule': 'python',
        'continual.rand_seed': presets.SEED_OF_RUN,
        'per_device_batch_size': 24, 'num_epochs': 60, 'learning_rate': 0.001},
    'domainnet': {
        'transform': 'torchvision', 'continual.train_mask': True,
        'continual.domain_outputs': 'separate'},
}


def get_config(selection=''):
  """PGT, a preset over its settings."""
  stream, preset = streams.select(selection)
  config = settings()
  streams.lay(config, stream, ON)
  return presets.apply(config, preset)


def settings():
  """PGT with the settings of ConvPrompt, whose code it grew from."""
  config = base.get_config()
  config.method = 'pgt'
  config.model_name = 'DeiT-B_16'  # exact GELU
  config.transform = 'torch_port'
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
  return config
