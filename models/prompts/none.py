# SPDX-License-Identifier: Apache-2.0
"""No prompts: the plain ViT with a head, for baselines.

With the backbone frozen this is the "frozen + head" control, with
`freeze_part = []` sequential fine-tuning.
"""

from promptcl.models.networks import vit
from promptcl.models.parts import base


def build(config, backbone: vit.VisionTransformer, stream: base.StreamInfo
          ) -> base.Method:
  """A method that learns no prompts."""
  del config, backbone, stream
  return base.Method(base.Prompt())
