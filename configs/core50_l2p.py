# SPDX-License-Identifier: Apache-2.0
r"""L2P on CORe50, domain-incremental: 8 sessions of the same 50 objects.

  python main.py --my_config configs/core50_l2p.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

As in the original the whole backbone trains; the query network keeps the
pretrained weights.  The original also trains on 99 % of the images and tests
through the training pipeline (random crops), which is not done here, so its
78.3 % is another protocol.  See `core50_clean_l2p` for a frozen backbone.
"""

from promptcl.configs import base
from promptcl.configs import presets


def get_config(preset=''):
  """L2P, google-research/l2p `core50_l2p`."""
  config = base.get_config()
  config.method = 'l2p'
  config.dataset = 'core50'
  config.continual.scenario = 'domain'
  config.continual.num_tasks = 8
  config.continual.num_classes_per_task = 50
  config.continual.train_mask = False
  config.optim = 'sgd'
  config.freeze_part = ()
  config.eval_per_epochs = 5
  config.prompt_pool_param.length = 5
  config.prompt_histogram = False
  return presets.apply(config, preset)
