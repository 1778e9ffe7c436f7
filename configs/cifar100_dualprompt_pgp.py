# Copyright 2026 The JAX Continual Prompting Authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
r"""DualPrompt with gradient projection on Split CIFAR-100, 10 tasks.

  python main.py --my_config configs/cifar100_dualprompt_pgp.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

With --my_config.pgp.enabled=False it is plain DualPrompt under the same
settings, with --my_config.pgp.variant=paper the projection that the paper
derives; --my_config.continual.eval_task_inc tells the task at test time. The
authors mix keys and values of a batch up, as their base does:
--my_config.prompt_pool_param.prefix_pairing=port repeats that.
"""

from configs import cifar100_dualprompt


def get_config(preset='torch_port'):
  """DualPrompt-PGP, `cifar100_10_dualprompt_pgp` of the authors."""
  config = cifar100_dualprompt.get_config(preset)
  config.seed = 59
  config.num_epochs = 20
  config.prompt_pool_param.prefix_pairing = 'correct'
  config.pgp.enabled = True
  return config
