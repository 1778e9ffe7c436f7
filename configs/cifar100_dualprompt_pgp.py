# SPDX-License-Identifier: Apache-2.0
r"""DualPrompt with gradient projection on Split CIFAR-100, 10 tasks.

  python main.py --my_config configs/cifar100_dualprompt_pgp.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

With --my_config.pgp.enabled=False it is plain DualPrompt under the same
settings, with --my_config.pgp.variant=paper the projection that the paper
derives; --my_config.continual.eval_task_inc tells the task at test time. The
authors mix keys and values of a batch up, as their base does:
--my_config.prompt_pool_param.prefix_pairing=port repeats that.
"""

from promptcl.configs import cifar100_dualprompt


def get_config(preset='torch_port'):
  """DualPrompt-PGP, `cifar100_10_dualprompt_pgp` of the authors."""
  config = cifar100_dualprompt.get_config(preset)
  config.seed = 59
  config.num_epochs = 20
  config.prompt_pool_param.prefix_pairing = 'correct'
  config.pgp.enabled = True
  return config
