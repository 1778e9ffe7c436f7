# SPDX-License-Identifier: Apache-2.0
"""L2P on a sequence of 3 data sets of digits, each with 10 outputs of its own.

  python main.py --my_config configs/digits_sequence_l2p.py --workdir DIR

The small twin of `five_datasets_l2p`.  Run
`python tools/write_digit_sets.py --output .` first: it writes the sets with
inverted and turned digits; no download.
"""

from promptcl.configs import digits_l2p
from promptcl.configs import presets


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
