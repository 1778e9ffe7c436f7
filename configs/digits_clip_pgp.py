# SPDX-License-Identifier: Apache-2.0
"""CLIP-PGP on handwritten digits: five tasks of two classes, no download.

  python main.py --my_config configs/digits_clip_pgp.py --workdir DIR

`clip_pgp` on the towers of `digits_clip_zeroshot`, which is its floor.
A minute on a laptop; docs/clip.md has the numbers.
"""

from promptcl.configs import clip_pgp
from promptcl.configs import digits_clip_zeroshot
from promptcl.configs import presets


def get_config(preset=''):
  """Rates that suit a width of 64; everything else as in the large recipe."""
  config = clip_pgp.get_config()
  config.model_name = 'CLIP-letters'
  config.init_checkpoint = str(digits_clip_zeroshot.WEIGHTS)
  config.dataset = 'digits'
  config.input_size = 32
  config.resize_size = 36
  config.transform = 'jax'
  config.augmentation = 'none'
  config.input_range = 'weights'
  config.continual.num_tasks = 5
  config.continual.num_classes_per_task = 2
  config.per_device_batch_size = 16
  config.eval_per_epochs = 0  # at task ends only
  config.learning_rate = 0.32
  config.later_rate_multipliers = ()
  return presets.apply(config, preset)
