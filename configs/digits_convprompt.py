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
"""ConvPrompt on handwritten digits: five tasks of two classes, no download.

  python main.py --my_config configs/digits_convprompt.py --workdir DIR

scikit-learn's digits behind a tiny ViT pretrained on letters, as in
`digits_l2p`.
"""

from configs import cifar100_pgt
from configs import digits_pgt
from configs import presets


def get_config(preset=''):
  """ConvPrompt on the offline default."""
  config = digits_pgt.get_config()
  config.method = 'convprompt'
  config.later_rate_multipliers = ((cifar100_pgt.NORMS, 0.005),)
  return presets.apply(config, preset)
