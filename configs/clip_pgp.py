# SPDX-License-Identifier: Apache-2.0
r"""CLIP-PGP: prompts of both towers of CLIP, under gradient projection.

  python main.py --my_config configs/clip_pgp.py:STREAM --workdir DIR \
    --my_config.init_checkpoint=clip-vit-base-patch16

Qiao et al. (ICLR 2024): an image prompt that all tasks share, whose gradients
are projected, and for each task a context of 16 tokens in front of class names.
With --my_config.pgp.enabled=False it is their CLIP baseline, with
--my_config.pgp.variant=paper the projection that their paper derives.

In the results `per_sample` is class-incremental (all classes seen compete) and
`per_sample_task_inc` task-incremental; `until_own_task` is what the authors
call class-incremental, which tells a part of the task.  Theirs is one device of
32 images; docs/clip.md says how to get weights and tokenizer, and what differs.

Settings are theirs for cifar100, which it is without a stream.
"""

from promptcl.configs import base
from promptcl.configs import presets
from promptcl.configs import streams

PUBLISHED = {}
ON = {}


def get_config(selection=''):
  """`cifar100_split.json` of the authors and the literals of their code."""
  stream, preset = streams.select(selection)
  config = base.get_config()
  config.method = 'vpt'
  config.model_name = 'CLIP-B_16'
  config.seed = 1997
  config.transform = 'clip_pgp'
  config.input_range = 'dataset'  # not what CLIP was trained on
  config.use_e_prompt = False
  config.vpt.length = 10
  config.vit_classifier = 'token'
  config.head = 'sentences'
  config.text.context_tokens = 16
  config.per_device_batch_size = 32
  config.num_epochs = 5
  config.optim = 'sgd'
  config.sgd_nesterov = False
  config.learning_rate = 0.001 * 256 / 32
  config.later_rate_multipliers = (('.*', 10.0),)
  config.learning_rate_schedule = 'cosine_by_epoch'
  config.gradient_decay = 5e-4
  config.later_gradient_decay = 2e-4
  config.grad_clip_max_norm = 0.0
  config.grad_clip_scope = 'trainable'
  config.eval_classes = 'seen'
  config.eval_until_own_task = True
  config.pgp.enabled = True
  streams.lay(config, stream, ON)
  return presets.apply(config, preset)
