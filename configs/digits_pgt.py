# SPDX-License-Identifier: Apache-2.0
"""PGT on handwritten digits: five tasks of two classes, no download.

  python main.py --my_config configs/digits_pgt.py --workdir DIR

scikit-learn's digits behind a tiny ViT pretrained on letters, as in
`digits_l2p`.
"""

from promptcl.configs import digits_l2p
from promptcl.configs import pgt
from promptcl.configs import presets


def get_config(preset=''):
  """PGT on the offline default."""
  config = digits_l2p.get_config()
  config.method = 'pgt'
  config.thaw = (pgt.NORMS,)
  config.vit_classifier = 'token'
  config.task_heads = True
  config.head_init = 'trunc_normal'
  config.use_e_prompt = False
  config.eval_classes = 'seen'
  config.learning_rate_schedule = 'cosine_by_epoch'
  config.later_rate_multipliers = (
      (pgt.NORMS, 0.005), ('prompt/naive_norm/.*', 0.005))
  config.generation.kernel = 5
  config.comparisons = ()
  return presets.apply(config, preset)
