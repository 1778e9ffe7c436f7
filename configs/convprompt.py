# SPDX-License-Identifier: Apache-2.0
r"""ConvPrompt: prompts by convolutions over shared embeddings.

  python main.py --my_config configs/convprompt.py:STREAM --workdir DIR \
    --my_config.init_checkpoint=B_16-i21k.npz

Without a stream it is cifar100.  The authors report fewer convolutions in tasks
that resemble old ones, too: give their numbers by `generation.anchors_by_task`.
"""

from promptcl.configs import pgt
from promptcl.configs import presets
from promptcl.configs import streams

_WEIGHTS = 'the authors, ViT-B/16 of AugReg on ImageNet-21k'
# Stream -> average accuracy.
PUBLISHED = {
    'cifar100': f'88.9 %: {_WEIGHTS}',
    'imr': f'77.9 %: {_WEIGHTS}',
    'cub200': f'80.2 %: {_WEIGHTS}',
}
ON = {
    'imr': {'seed': 1993, 'grad_clip_max_norm': 0.0},
    'cub200': {
        'per_device_batch_size': 24, 'num_epochs': 60, 'learning_rate': 0.001},
}


def get_config(selection=''):
  """ConvPrompt with the most convolutions that it gives a task."""
  stream, preset = streams.select(selection)
  config = pgt.settings()
  config.method = 'convprompt'
  config.seed = 1996
  config.later_rate_multipliers = ((pgt.NORMS, 0.005),)
  config.generation.layers = (0, 1, 2, 3, 4, 5, 6)
  config.generation.anchors = 5
  streams.lay(config, stream, ON)
  return presets.apply(config, preset)
