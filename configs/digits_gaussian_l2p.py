# SPDX-License-Identifier: Apache-2.0
"""L2P on handwritten digits that come and go: 40 episodes, no download.

  python main.py --my_config configs/digits_gaussian_l2p.py --workdir DIR

The small twin of `cifar100_gaussian_l2p`, in the reading of the paper: each
episode is a few batches of the classes that a Gaussian schedule admits.

scikit-learn's digits behind a tiny ViT pretrained on letters, as in
`digits_l2p`.
"""

from promptcl.configs import digits_l2p
from promptcl.configs import presets


def get_config(preset=''):
  """The offline default without task borders."""
  config = digits_l2p.get_config()
  config.gaussian_schedule = True
  config.gaussian_mode = 'paper'
  config.num_epochs = 1  # of a few batches
  config.continual.num_tasks = 40
  config.continual.num_classes_per_task = 10
  config.reinit_optimizer = False
  config.prompt_pool_param.use_prompt_mask = False  # there are no tasks
  config.comparisons = ()
  return presets.apply(config, preset)
