# SPDX-License-Identifier: Apache-2.0
r"""DualPrompt with gradient projection on Split CIFAR-100, 20 tasks, online.

  python main.py --my_config configs/cifar100_20x5_online_dualprompt_pgp.py \
    --workdir DIR --my_config.init_checkpoint=ViT-B_16.npz

One pass over the images.
"""

from promptcl.configs import cifar100_20x5_dualprompt_pgp


def get_config(preset='torch_port'):
  """`cifar100_20x5_dualprompt_pgp` in one pass."""
  config = cifar100_20x5_dualprompt_pgp.get_config(preset)
  config.num_epochs = 1
  return config
