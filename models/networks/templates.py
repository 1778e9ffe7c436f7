# SPDX-License-Identifier: Apache-2.0
"""Sentences about classes: names as words, templates of data sets.

  sentences(['maple_tree'], (SINGLE,))     # [['a photo of a maple tree.']]

Templates are those that CLIP was evaluated with: `data/prompts.md` and the
notebook on ImageNet of openai/CLIP.
"""

from collections.abc import Sequence
import re

SINGLE = 'a photo of a {}.'
BIRD = 'a photo of a {}, a type of bird.'
# What WordNet ids in brackets tell apart here means the same to a reader.
_WORDNET_ID = re.compile(r' \(n\d{8}\)$')
_ARTICLES = ('a', 'the')


def _both(*patterns: str) -> tuple[str, ...]:
  """Each pattern with either article in place of its `*`."""
  return tuple(pattern.replace('*', article, 1)
               for pattern in patterns for article in _ARTICLES)


_CIFAR = _both(
    'a photo of * {}.', 'a blurry photo of * {}.',
    'a black and white photo of * {}.', 'a low contrast photo of * {}.',
    'a high contrast photo of * {}.', 'a bad photo of * {}.',
    'a good photo of * {}.', 'a photo of * small {}.', 'a photo of * big {}.')
_IMAGENET = _both(
    'a photo of * {}.', 'a bad photo of * {}.', 'a good photo of * {}.',
    'a blurry photo of * {}.', 'a bright photo of * {}.',
    'a dark photo of * {}.', 'a cropped photo of * {}.',
    'a close-up photo of * {}.', 'a pixelated photo of * {}.',
    'a low resolution photo of * {}.', 'a jpeg corrupted photo of * {}.',
    'a black and white photo of * {}.', 'a photo of * clean {}.',
    'a photo of * dirty {}.', 'a photo of * cool {}.', 'a photo of * nice {}.',
    'a photo of * weird {}.', 'a photo of * large {}.',
    'a photo of * small {}.',
    'a photo of * hard to see {}.', 'a sculpture of * {}.',
    'a rendering of * {}.', 'a rendition of * {}.', 'a drawing of * {}.',
    'a painting of * {}.', 'a sketch of * {}.', 'a doodle of * {}.',
    'a tattoo of * {}.', 'graffiti of * {}.', 'art of * {}.', 'itap of * {}.',
    '* embroidered {}.', '* plastic {}.', '* origami {}.', '* toy {}.',
    '* cartoon {}.', '* plushie {}.', '* {} in a video game.') + (
        'a photo of many {}.', 'a photo of one {}.', 'a photo of my {}.',
        'itap of my {}.')
ENSEMBLES = {'cifar10': _CIFAR, 'cifar100': _CIFAR, 'cub200': (BIRD,),
             'imagenet_r': _IMAGENET, 'tinyimagenet': _IMAGENET}
SINGLES = {'cub200': BIRD}


def words(name: str) -> str:
  """A class name as it stands in a sentence: `maple_tree` -> `maple tree`."""
  return ' '.join(_WORDNET_ID.sub('', name).replace('_', ' ').split())


def of_dataset(dataset: str, *, ensemble: bool) -> tuple[str, ...]:
  """Templates of a data set: all that it has, or the one to take alone."""
  single = (SINGLES.get(dataset, SINGLE),)
  return ENSEMBLES.get(dataset, single) if ensemble else single


def sentences(names: Sequence[str], templates: Sequence[str]
              ) -> list[list[str]]:
  """The sentences of each class, one for each template.

  Raises:
    ValueError: a template without exactly one place for a name.
  """
  for template in templates:
    if template.count('{}') != 1:
      raise ValueError(f'config.text.templates: {template!r} must have {{}} '
                       'once, where the class name goes')
  return [[template.replace('{}', words(name)) for template in templates]
          for name in names]
