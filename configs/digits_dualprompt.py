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
"""DualPrompt on handwritten digits: five tasks of two classes, no download.

  python main.py --my_config configs/digits_dualprompt.py --workdir DIR

scikit-learn's digits behind a tiny ViT pretrained on letters, as in
`digits_l2p`.
"""

from configs import digits_l2p
from configs import presets


def get_config(preset=''):
  """DualPrompt on the offline default."""
  config = digits_l2p.get_config()
  config.method = 'dualprompt'
  config.vit_classifier = 'token'
  config.use_g_prompt = True
  config.g_prompt_length = 4
  config.g_prompt_layer_idx = (0,)
  config.e_prompt_layer_idx = (1, 2)
  config.use_prefix_tune_for_e_prompt = True
  config.prompt_pool_param.shared_prompt_pool = True
  config.comparisons = ()
  return presets.apply(config, preset)
