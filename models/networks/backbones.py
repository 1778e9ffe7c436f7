# SPDX-License-Identifier: Apache-2.0
"""Every backbone that `config.model_name` may name."""

import functools

from promptcl.models.networks import clip
from promptcl.models.networks import vit

VARIANTS = {**vit.VARIANTS, **clip.VARIANTS}

# create('CLIP-B_16', image_size=224), see `vit.create`.
create = functools.partial(vit.create, variants=VARIANTS)
