# SPDX-License-Identifier: Apache-2.0
r"""L2P with gradient projection on Split ImageNet-R, 10 tasks of 20 classes.

  python main.py --my_config configs/imr_l2p_pgp.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

See `cifar100_l2p_pgp` for the plain method and the other variant.
"""

from promptcl.configs import imr_l2p


def get_config(preset='torch_port'):
  """L2P-PGP, `imr_l2p_pgp` of the authors."""
  config = imr_l2p.get_config(preset)
  config.seed = 59
  config.prompt_pool_param.length = 30
  config.prompt_pool_param.top_k = 1
  config.pgp.enabled = True
  return config
