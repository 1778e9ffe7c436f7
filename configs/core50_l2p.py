# SPDX-License-Identifier: Apache-2.0
r"""L2P on CORe50, domain-incremental: 8 sessions of the same 50 objects.

  python main.py --my_config configs/core50_l2p.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

As in the original the whole backbone trains; the query network keeps the
pretrained weights.  The original also trains on 99 % of the images and tests
through the training pipeline (random crops), which is not done here, so its
78.3 % is another protocol.  For a frozen backbone see
`configs/l2p.py:core50_clean`.
"""

from promptcl.configs import l2p


def get_config(preset=''):
  """L2P, google-research/l2p `core50_l2p`."""
  return l2p.get_config(f'core50,{preset}')
