# SPDX-License-Identifier: Apache-2.0
r"""L2P on Split ImageNet-R, 10 tasks of 20 classes.

  python main.py --my_config configs/imr_l2p.py --workdir DIR \
    --my_config.init_checkpoint=ViT-B_16.npz

DualPrompt's paper reports 61.6 % average accuracy for L2P with ViT-B/16
pretrained on ImageNet-21k.  Published figures span 61.6 to 72.9 %: weights,
epochs and the division into training and test images all differ.
"""

from promptcl.configs import cifar100_l2p
from promptcl.configs import presets


def get_config(preset=''):
  """L2P with the schedule of `imr_dualprompt`."""
  config = cifar100_l2p.get_config()
  config.dataset = 'imagenet_r'
  config.continual.num_classes_per_task = 20
  config.learning_rate = 0.005
  config.num_epochs = 50
  config.eval_per_epochs = 10
  return presets.apply(config, preset)
