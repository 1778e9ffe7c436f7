# SPDX-License-Identifier: Apache-2.0
"""L2P on handwritten digits, domain-incremental: 3 looks of the same 10 digits.

  python main.py --my_config configs/digits_domain_l2p.py --workdir DIR

Run `python tools/write_digit_sets.py --output .` first: it writes the file
with plain, inverted and blurred digits; no download.  The tiny ViT is that
of `digits_l2p`.
"""

from promptcl.configs import digits_l2p
from promptcl.configs import presets


def get_config(preset=''):
  """The offline default over looks; every task has every class."""
  config = digits_l2p.get_config()
  config.dataset = 'npz:digits_domains.npz'
  config.continual.scenario = 'domain'
  config.continual.num_tasks = 3
  config.continual.num_classes_per_task = 10
  config.continual.train_mask = False
  config.comparisons = ()
  return presets.apply(config, preset)
