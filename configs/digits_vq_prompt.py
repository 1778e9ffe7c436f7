# SPDX-License-Identifier: Apache-2.0
"""VQ-Prompt on handwritten digits: five tasks of two classes, no download.

  python main.py --my_config configs/digits_vq_prompt.py --workdir DIR

scikit-learn's digits behind a tiny ViT pretrained on letters, as in
`digits_l2p`.
"""

from promptcl.configs import digits_l2p
from promptcl.configs import presets
from promptcl.configs import vq_prompt


def get_config(preset=''):
  """VQ-Prompt on the offline default."""
  config = digits_l2p.get_config()
  for key in ('method', 'vit_classifier', 'head_init', 'use_e_prompt',
              'eval_classes', 'optim', 'learning_rate_multipliers',
              'learning_rate_schedule', 'grad_clip_max_norm'):
    config[key] = vq_prompt.get_config()[key]
  config.learning_rate = 0.0025 * 256 / 16
  config.min_learning_rate = 1e-6 * 256 / 16
  config.rebalance.epochs = 10
  config.rebalance.learning_rate = 0.05  # few classes make few steps
  config.comparisons = ()
  return presets.apply(config, preset)
