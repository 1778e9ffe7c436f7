# SPDX-License-Identifier: Apache-2.0
r"""DualPrompt with gradient projection on Split CUB-200, 5 tasks.

  python main.py --my_config configs/cub200_5x40_dualprompt_pgp.py \
    --workdir DIR --my_config.init_checkpoint=ViT-B_16.npz

See `cifar100_dualprompt_pgp` for the plain method and the other variants.
"""

from promptcl.configs import cub200_5x40_dualprompt


def get_config(preset='torch_port'):
  """DualPrompt-PGP, `cub200_dualprompt_pgp` of the authors."""
  config = cub200_5x40_dualprompt.get_config(preset)
  config.seed = 51
  config.prompt_pool_param.prefix_pairing = 'correct'
  config.pgp.enabled = True
  return config
