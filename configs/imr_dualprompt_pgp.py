# SPDX-License-Identifier: Apache-2.0
r"""DualPrompt with gradient projection on Split ImageNet-R, 10 tasks.

  python main.py --my_config configs/imr_dualprompt_pgp.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

See `cifar100_dualprompt_pgp` for the plain method and the other variants.
"""

from promptcl.configs import imr_dualprompt


def get_config(preset='torch_port'):
  """DualPrompt-PGP, `imr_dualprompt_pgp` of the authors."""
  config = imr_dualprompt.get_config(preset)
  config.seed = 43
  config.prompt_pool_param.prefix_pairing = 'correct'
  config.pgp.enabled = True
  return config
