# SPDX-License-Identifier: Apache-2.0
r"""DualPrompt with prompt gradient projection (PGP).

  python main.py --my_config configs/dualprompt_pgp.py:STREAM --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

Without a stream it is cifar100, without a preset torch_port, which the authors
started from.  With --my_config.pgp.enabled=False it is plain DualPrompt under
the same settings, with --my_config.pgp.variant=paper the projection that the
paper derives; --my_config.continual.eval_task_inc tells the task at test time.
The authors mix keys and values of a batch up, as their base does:
--my_config.prompt_pool_param.prefix_pairing=port repeats that.

Seeds are those that the authors give for each stream.  On cifar100_20x5 they
have a pool of 10: the last ten tasks find no prompts of their own.
"""

from promptcl.configs import dualprompt
from promptcl.configs import streams

PUBLISHED = {}
ON = {
    'cifar100': {'seed': 59, 'num_epochs': 20},
    'cifar100_20x5': {'seed': 42, 'prompt_pool_param.pool_size': 10},
    'tinyimagenet': {'seed': 52},
    'imr': {'seed': 43},
    'cub200_5x40': {'seed': 51},
}


def get_config(selection=''):
  """DualPrompt-PGP, `cifar100_10_dualprompt_pgp` and others of the authors."""
  stream, preset = streams.select(selection, preset='torch_port')
  config = dualprompt.get_config(f'{stream},{preset}')
  config.prompt_pool_param.prefix_pairing = 'correct'
  config.pgp.enabled = True
  streams.adjust(config, stream, ON)
  return config
