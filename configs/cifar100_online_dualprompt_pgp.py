# SPDX-License-Identifier: Apache-2.0
r"""DualPrompt with gradient projection on Split CIFAR-100, online.

  python main.py --my_config configs/cifar100_online_dualprompt_pgp.py \
    --workdir DIR --my_config.init_checkpoint=ViT-B_16.npz

One pass over the images; tasks and their borders are those of the usual 10 x 10
cut.
"""

from promptcl.configs import cifar100_dualprompt_pgp


def get_config(preset='torch_port'):
  """`cifar100_dualprompt_pgp` in one pass."""
  config = cifar100_dualprompt_pgp.get_config(preset)
  config.num_epochs = 1
  return config
