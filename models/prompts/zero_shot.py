# SPDX-License-Identifier: Apache-2.0
"""CLIP as it is: classes are sentences, nothing is trained.

The head holds the directions of the class names, which the text tower computes
once at the start of a run and is then left out; images are embedded once, by
the query pass.  A task has no steps: what changes from task to task is which
classes compete (`config.eval_classes`).

Reference: Radford et al., 2021 (arXiv:2103.00020), section 3.1.
"""

from promptcl.models.networks import clip
from promptcl.models.networks import text
from promptcl.models.parts import base

_TEXT_TOWER = f'backbone/{clip.TEXT}'
SMALL = {'model_name': 'CLIP-testing', 'head': 'cosine', 'use_e_prompt': False,
         'vit_classifier': 'query'}


class NoPrompt(base.Prompt):
  """No prompts; the query pass is the only one (`vit_classifier = 'query'`)."""

  query_needs = ('embedding',)


def build(config, backbone: clip.Clip, stream: base.StreamInfo) -> base.Method:
  """A method of no steps.

  Raises:
    ValueError: a backbone without text tower, or a head that compares nothing.
  """
  del stream
  if not isinstance(backbone, clip.Clip):
    raise ValueError(f"config.method zero_shot needs a text tower: "
                     f'model_name {config.model_name} is none of CLIP-*')
  if config.head != 'cosine':
    raise ValueError("config.method zero_shot needs config.head = 'cosine'")

  def start(class_names):
    ids = text.class_ids(config, backbone.text_shape, class_names)

    def fill(params):
      kept = {path: leaf for path, leaf in params.items()
              if not path.startswith(_TEXT_TOWER)}
      embeddings = text.class_embeddings(backbone, params, ids)
      return {**kept, 'head/kernel': embeddings.T,
              'head/scale': params[f'backbone/{clip.SCALE}']}

    return fill

  return base.Method(NoPrompt(), phases=base.no_phases, start=start)
