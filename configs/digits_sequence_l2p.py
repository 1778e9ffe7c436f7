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
"""L2P on a sequence of 3 data sets of digits, each with 10 outputs of its own.

  python main.py --my_config configs/digits_sequence_l2p.py --workdir DIR

The small twin of `five_datasets_l2p`.  Run
`python tools/write_digit_sets.py --output .` first: it writes the sets with
inverted and turned digits; no download.
"""

from configs import digits_l2p
from configs import presets


def get_config(preset=''):
  """The offline default over data sets."""
  config = digits_l2p.get_config()
  config.dataset = 'digits,npz:digits_inverted.npz,npz:digits_turned.npz'
  config.continual.scenario = 'dataset'
  config.continual.num_tasks = 3
  config.continual.num_classes_per_task = 10
  config.prompt_pool_param.pool_size = 6
  config.prompt_pool_param.top_k = 2  # prompts of each data set
  config.prompt_pool_param.shared_prompt_pool = True
  config.comparisons = ()
  return presets.apply(config, preset)
