# SPDX-License-Identifier: Apache-2.0
r"""DualPrompt with gradient projection on Split CIFAR-100, 20 tasks.

  python main.py --my_config configs/cifar100_20x5_dualprompt_pgp.py \
    --workdir DIR --my_config.init_checkpoint=ViT-B_16.npz

See `cifar100_dualprompt_pgp` for the plain method and the other variants. With
a pool of 10 the last ten tasks find no prompts of their own.
"""

from promptcl.configs import cifar100_20x5_dualprompt


def get_config(preset='torch_port'):
  """DualPrompt-PGP, `cifar100_20_dualprompt_pgp` of the authors."""
  config = cifar100_20x5_dualprompt.get_config(preset)
  config.num_epochs = 20
  config.prompt_pool_param.pool_size = 10
  config.prompt_pool_param.prefix_pairing = 'correct'
  config.pgp.enabled = True
  return config
