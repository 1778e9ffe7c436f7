# SPDX-License-Identifier: Apache-2.0
"""What the weights of a family were trained with: GELU and input range.

A file tells its family by what it records (`meta` of a converted `.npz`), by
its array names (timm's or the original's), by the size of its classifier or by
the tag in its published name; else `config.model_name` decides: ViT-* is the
original family, DeiT-* is DeiT, CLIP-* is CLIP.  Where that leaves two
readings, `find` says so and the user sets `config.input_range`.

Sources of the ranges: google-research/vision_transformer, timm's model cards,
the pretraining code of DeiT, DINO, iBOT and MoCo-v3, openai/CLIP.
"""

from collections.abc import Mapping
import dataclasses
import pathlib

from promptcl.models.networks import backbones
from promptcl.models.weights import clip_names
from promptcl.models.weights import formats
from promptcl.models.weights import timm_names


@dataclasses.dataclass(frozen=True)
class Family:
  """Traits of pretrained weights.

  Attributes:
    name: for people.
    exact_gelu: error-function GELU instead of the tanh form; None: not known.
    input_range: as in `config.input_range`; '': not known.
  """

  name: str
  exact_gelu: bool | None = None
  input_range: str = ''


FAMILIES = {family.name: family for family in (
    # IN-21k and AugReg, as google-research released them.
    Family('original', False, 'minus_one_one'),
    # The same weights in timm, which computes the other GELU.
    Family('timm_augreg', True, 'minus_one_one'),
    Family('deit', True, 'imagenet'),
    Family('dino', True, 'imagenet'),
    Family('ibot', True, 'imagenet'),
    Family('moco', True, 'imagenet'),
    Family('clip', False, 'clip'),
    Family('letters', False, 'zero_one'),  # tools/pretrain_letters*.py
)}
_TIMM = Family('timm', True)
_NUM_IN21K = 21843
# Parts of published addresses, such as timm's tags; the first that fits.
_TAGS = {'/vit_models/': 'original', 'augreg': 'timm_augreg',
         'orig_in21k': 'timm_augreg', 'deit_': 'deit', 'dino_': 'dino',
         '.dino': 'dino'}


def by_name(name: str) -> str:
  """Family that an address, or the last two parts of a path, tells, or ''."""
  if '://' not in name:
    name = '/'.join(pathlib.PurePosixPath(name).parts[-2:])
  return next((family for tag, family in _TAGS.items() if tag in name.lower()),
              '')


def find(path: str, *, model_name: str, address: str = '') -> Family:
  """The family of the weights in a file.

  Args:
    path: of the file.
    model_name: key of `backbones.VARIANTS`; decides where the file leaves it
      open.
    address: where the file came from.

  Raises:
    FileNotFoundError, ValueError: no readable file.
  """
  seen = formats.peek(path)
  if seen.meta.get('family'):
    return _recorded(seen.meta)
  if clip_names.is_clip(seen.names):
    return FAMILIES['clip']
  told = by_name(address or path)
  in21k = seen.num_outputs == _NUM_IN21K
  if timm_names.is_timm(seen.names):
    return FAMILIES['timm_augreg'] if in21k else FAMILIES.get(told, _TIMM)
  if in21k or told == 'original' or any(
      name.startswith('pre_logits/') for name in seen.names):
    return FAMILIES['original']
  return of_model(model_name)


def of_model(model_name: str) -> Family:
  """The family that a variant is made for."""
  if model_name in ('ViT-digits', 'CLIP-letters'):
    return FAMILIES['letters']
  gelu = backbones.VARIANTS[model_name].traits.gelu
  return FAMILIES[{'exact': 'deit', 'tanh': 'original', 'quick': 'clip'}[gelu]]


def _recorded(meta: Mapping[str, object]) -> Family:
  """What a file says of itself; single traits win over the family's."""
  name = str(meta['family'])
  known = FAMILIES.get(name, Family(name))
  exact = meta.get('exact_gelu', known.exact_gelu)
  told = meta.get('input_range')
  return Family(name, exact if isinstance(exact, bool) else known.exact_gelu,
                told if isinstance(told, str) else known.input_range)


def check_gelu(family: Family, *, model_name: str, source: str) -> None:
  """Refuses weights for the exact GELU in a variant with the tanh form.

  The other way round is what the torch ports do with the original's files, so
  it is allowed.

  Raises:
    ValueError: names the variant to take instead.
  """
  variant = backbones.VARIANTS[model_name]
  if not family.exact_gelu or variant.exact_gelu:
    return
  size = lambda v: (v.patch_size, v.width, v.depth, v.num_heads, v.mlp_dim)
  twins = [name for name, other in backbones.VARIANTS.items()
           if other.exact_gelu and size(other) == size(variant)]
  advice = (f'set it to {twins[0]}' if twins else
            'there is no variant of that size with it')
  raise ValueError(
      f'init_checkpoint {source!r} holds {family.name} weights, which need the '
      f'exact GELU; config.model_name {model_name} has the tanh form: {advice}')
