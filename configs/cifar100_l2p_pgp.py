# SPDX-License-Identifier: Apache-2.0
r"""L2P with gradient projection on Split CIFAR-100, 10 tasks of 10 classes.

  python main.py --my_config configs/cifar100_l2p_pgp.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

With --my_config.pgp.enabled=False it is plain L2P under the same settings, with
--my_config.pgp.variant=paper the projection that the paper derives;
--my_config.continual.eval_task_inc tells the task at test time.
"""

from promptcl.configs import cifar100_l2p


def get_config(preset='torch_port'):
  """L2P-PGP, `cifar100_10_l2p_pgp` of the authors."""
  config = cifar100_l2p.get_config(preset)
  config.pgp.enabled = True
  return config
