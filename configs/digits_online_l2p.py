# SPDX-License-Identifier: Apache-2.0
"""L2P on handwritten digits, online: each image is seen once, no download.

  python main.py --my_config configs/digits_online_l2p.py --workdir DIR

scikit-learn's digits behind a tiny ViT pretrained on letters, as in
`digits_l2p`.
"""

from promptcl.configs import digits_l2p
from promptcl.configs import presets


def get_config(preset=''):
  """The offline default in one pass."""
  config = digits_l2p.get_config()
  config.num_epochs = 1
  config.per_device_batch_size = 8
  config.comparisons = ()
  return presets.apply(config, preset)
