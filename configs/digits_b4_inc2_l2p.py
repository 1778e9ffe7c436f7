# SPDX-License-Identifier: Apache-2.0
"""L2P on handwritten digits, 4 classes first and then 2 a task, no download.

  python main.py --my_config configs/digits_b4_inc2_l2p.py --workdir DIR

scikit-learn's digits behind a tiny ViT pretrained on letters, as in
`digits_l2p`.
"""

from promptcl.configs import digits_l2p
from promptcl.configs import presets


def get_config(preset=''):
  """The offline default with a large first task."""
  config = digits_l2p.get_config()
  config.continual.init_cls = 4
  config.continual.inc_cls = 2
  config.continual.num_tasks = 4
  config.comparisons = ()
  return presets.apply(config, preset)
