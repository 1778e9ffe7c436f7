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
"""L2P on handwritten digits, 4 classes first and then 2 a task, no download.

  python main.py --my_config configs/digits_b4_inc2_l2p.py --workdir DIR

scikit-learn's digits behind a tiny ViT pretrained on letters, as in
`digits_l2p`.
"""

from configs import digits_l2p
from configs import presets


def get_config(preset=''):
  """The offline default with a large first task."""
  config = digits_l2p.get_config()
  config.continual.init_cls = 4
  config.continual.inc_cls = 2
  config.continual.num_tasks = 4
  config.comparisons = ()
  return presets.apply(config, preset)
