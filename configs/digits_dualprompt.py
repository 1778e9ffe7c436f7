# SPDX-License-Identifier: Apache-2.0
"""DualPrompt on handwritten digits: five tasks of two classes, no download.

  python main.py --my_config configs/digits_dualprompt.py --workdir DIR

scikit-learn's digits behind a tiny ViT pretrained on letters, as in
`digits_l2p`.
"""

from promptcl.configs import digits_l2p
from promptcl.configs import presets


def get_config(preset=''):
  """DualPrompt on the offline default."""
  config = digits_l2p.get_config()
  config.method = 'dualprompt'
  config.vit_classifier = 'token'
  config.use_g_prompt = True
  config.g_prompt_length = 4
  config.g_prompt_layer_idx = (0,)
  config.e_prompt_layer_idx = (1, 2)
  config.use_prefix_tune_for_e_prompt = True
  config.prompt_pool_param.shared_prompt_pool = True
  config.comparisons = ()
  return presets.apply(config, preset)
