# SPDX-License-Identifier: Apache-2.0
"""ConvPrompt on handwritten digits: five tasks of two classes, no download.

  python main.py --my_config configs/digits_convprompt.py --workdir DIR

scikit-learn's digits behind a tiny ViT pretrained on letters, as in
`digits_l2p`.
"""

from promptcl.configs import digits_pgt
from promptcl.configs import pgt
from promptcl.configs import presets


def get_config(preset=''):
  """ConvPrompt on the offline default."""
  config = digits_pgt.get_config()
  config.method = 'convprompt'
  config.later_rate_multipliers = ((pgt.NORMS, 0.005),)
  return presets.apply(config, preset)
