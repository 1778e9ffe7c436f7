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
r"""DualPrompt with gradient projection on Split ImageNet-R, 10 tasks.

  python main.py --my_config configs/imr_dualprompt_pgp.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

See `cifar100_dualprompt_pgp` for the plain method and the other variants.
"""

from configs import imr_dualprompt


def get_config(preset='torch_port'):
  """DualPrompt-PGP, `imr_dualprompt_pgp` of the authors."""
  config = imr_dualprompt.get_config(preset)
  config.seed = 43
  config.prompt_pool_param.prefix_pairing = 'correct'
  config.pgp.enabled = True
  return config
