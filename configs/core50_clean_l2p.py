# SPDX-License-Identifier: Apache-2.0
r"""L2P on CORe50 evaluated cleanly: 8 sessions of the same 50 objects.

  python main.py --my_config configs/core50_clean_l2p.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

The backbone is frozen and every test image is scored once as it is, which
`core50_l2p` (the original) does not do; the two are not comparable.
"""

from promptcl.configs import core50_l2p
from promptcl.configs import presets


def get_config(preset=''):
  """`core50_l2p` with a frozen backbone."""
  config = core50_l2p.get_config()
  config.optim = 'adam'
  config.freeze_part = ('encoder', 'embedding', 'cls')
  config.eval_per_epochs = 0  # at task ends only
  return presets.apply(config, preset)
