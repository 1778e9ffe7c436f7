# SPDX-License-Identifier: Apache-2.0
"""Zero-shot classification of handwritten digits, no download.

  python main.py --my_config configs/digits_clip_zeroshot.py --workdir DIR

Nothing is trained; half a minute on a laptop.  The two towers were pretrained
on rendered letters and their names (models/weights/letters_clip), so a digit is
something that neither has met: chance (10 % with all classes) is what to
expect, 7.6 % is what comes out.  The recipe is the offline form of
`clip_zeroshot`, and the floor for methods that train on this backbone;
`class_mean`, 89.9 %, shows what its images alone tell.
"""

import pathlib

from promptcl.configs import base
from promptcl.configs import presets

WEIGHTS = (pathlib.Path(__file__).parents[1]
           / 'models/weights/letters_clip/weights.npz')


def get_config(preset=''):
  """Sentences about digits against images, one template."""
  config = base.get_config()
  config.method = 'zero_shot'
  config.model_name = 'CLIP-letters'
  config.init_checkpoint = str(WEIGHTS)
  config.dataset = 'digits'
  config.input_size = 32
  config.resize_size = 36
  config.input_range = 'weights'
  config.continual.num_tasks = 5
  config.continual.num_classes_per_task = 2
  config.use_e_prompt = False
  config.vit_classifier = 'query'
  config.head = 'cosine'
  config.freeze_part = ('encoder', 'embedding', 'cls', 'head')
  config.eval_classes = 'seen'
  config.comparisons = ('class_mean',)
  return presets.apply(config, preset)
