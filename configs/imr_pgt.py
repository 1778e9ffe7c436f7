# SPDX-License-Identifier: Apache-2.0
r"""PGT on Split ImageNet-R, 10 tasks of 20 classes.

  python main.py --my_config configs/imr_pgt.py --workdir DIR \
    --my_config.init_checkpoint=B_16-i21k.npz

ViT-B/16 of AugReg, ImageNet-21k; see docs/pgt.md.
"""

from promptcl.configs import cifar100_pgt
from promptcl.configs import presets


def get_config(preset=''):
  """`cifar100_pgt` with classes in ascending order and without clipping."""
  config = cifar100_pgt.get_config()
  config.dataset = 'imagenet_r'
  config.continual.num_classes_per_task = 20
  config.continual.class_order = ()
  config.grad_clip_max_norm = 0.0
  return presets.apply(config, preset)
