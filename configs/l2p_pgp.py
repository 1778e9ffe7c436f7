# SPDX-License-Identifier: Apache-2.0
r"""L2P with prompt gradient projection (PGP).

  python main.py --my_config configs/l2p_pgp.py:STREAM --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

Without a stream it is cifar100, without a preset torch_port, which the authors
started from.  With --my_config.pgp.enabled=False it is plain L2P under the same
settings, with --my_config.pgp.variant=paper the projection that the paper
derives; --my_config.continual.eval_task_inc tells the task at test time.

Seeds are those that the authors give for each stream.
"""

from promptcl.configs import l2p
from promptcl.configs import streams

PUBLISHED = {}
ON = {
    'cifar100_20x5': {'seed': 53},
    'cifar100_20x5_online': {'seed': 42},
    'tinyimagenet': {'seed': 52},
    'tinyimagenet_online': {'seed': 50},
    'imr': {'seed': 59, 'prompt_pool_param.length': 30,
            'prompt_pool_param.top_k': 1},
}


def get_config(selection=''):
  """L2P-PGP, `cifar100_10_l2p_pgp` and others of the authors."""
  stream, preset = streams.select(selection, preset='torch_port')
  config = l2p.get_config(f'{stream},{preset}')
  config.pgp.enabled = True
  streams.adjust(config, stream, ON)
  return config
