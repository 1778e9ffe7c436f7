# SPDX-License-Identifier: Apache-2.0
r"""ConvPrompt on Split CIFAR-100, 10 tasks of 10 classes.

  python main.py --my_config configs/cifar100_convprompt.py --workdir DIR \
    --my_config.init_checkpoint=B_16-i21k.npz

The authors report 88.9 % average accuracy with ViT-B/16 of AugReg on
ImageNet-21k, and fewer convolutions in tasks that resemble old ones: give their
numbers by `generation.anchors_by_task`.
"""

from promptcl.configs import cifar100_pgt
from promptcl.configs import presets


def get_config(preset=''):
  """ConvPrompt with the most convolutions that it gives a task."""
  config = cifar100_pgt.get_config()
  config.method = 'convprompt'
  config.seed = 1996
  config.continual.class_order = ()
  config.later_rate_multipliers = ((cifar100_pgt.NORMS, 0.005),)
  config.generation.layers = (0, 1, 2, 3, 4, 5, 6)
  config.generation.anchors = 5
  return presets.apply(config, preset)
