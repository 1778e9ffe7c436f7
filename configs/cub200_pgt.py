# SPDX-License-Identifier: Apache-2.0
r"""PGT on Split CUB-200, 10 tasks of 20 classes.

  python main.py --my_config configs/cub200_pgt.py --workdir DIR \
    --my_config.init_checkpoint=B_16-i21k.npz

The official training and test lists, classes shuffled with the seed of the run;
see docs/pgt.md.
"""

from promptcl.configs import cifar100_pgt
from promptcl.configs import presets


def get_config(preset=''):
  """`cifar100_pgt` with small batches and many epochs."""
  config = cifar100_pgt.get_config()
  config.dataset = 'cub200'
  config.continual.num_classes_per_task = 20
  config.continual.class_order = ()
  config.continual.order_rule = 'python'
  # + 0: a value given for it later is not given to the seed.
  config.continual.rand_seed = config.get_ref('seed') + 0
  config.per_device_batch_size = 24
  config.num_epochs = 60
  config.learning_rate = 0.001
  return presets.apply(config, preset)
