# SPDX-License-Identifier: Apache-2.0
"""Pairs of drawn letters and sentences that name them, made of characters.

Each letter has three names: its sign, its English name and its word in the
international spelling alphabet.  Upper and lower case share them.

  tokenizer = build_tokenizer()
  ids = sentence_ids(tokenizer)        # [26, names, sentences, T]
  images, sentences = Source(glyphs, ids, seed=0, num_groups=2).batch(0)

The tokenizer lower-cases and writes digits out (`7` becomes `seven`), since its
tokens are the 26 letters, blank and full stop: there is no digit that could be
learned.  Anything else is one token for what is unknown.
"""

from collections.abc import Sequence
import dataclasses
import string

import numpy as np
import tokenizers
from tokenizers import models
from tokenizers import normalizers
from tokenizers import pre_tokenizers

from promptcl.models.networks import templates
from promptcl.models.networks import tokenizer as tokenizer_lib
from promptcl.tools import letters

SIGNS = tuple(string.ascii_lowercase)
ENGLISH = (
    'a', 'bee', 'cee', 'dee', 'e', 'ef', 'gee', 'aitch', 'i', 'jay', 'kay',
    'el', 'em', 'en', 'o', 'pee', 'cue', 'ar', 'ess', 'tee', 'u', 'vee',
    'double u', 'ex', 'wy', 'zee')
SPELLING = (
    'alfa', 'bravo', 'charlie', 'delta', 'echo', 'foxtrot', 'golf', 'hotel',
    'india', 'juliett', 'kilo', 'lima', 'mike', 'november', 'oscar', 'papa',
    'quebec', 'romeo', 'sierra', 'tango', 'uniform', 'victor', 'whiskey',
    'xray', 'yankee', 'zulu')
NAMES = (SIGNS, ENGLISH, SPELLING)
SENTENCES = (templates.SINGLE, 'a photo of the letter {}.', 'the letter {}.',
             'a drawing of a {}.', '{}')
_DIGITS = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven',
           'eight', 'nine')
_UNKNOWN = '?'


def build_tokenizer() -> tokenizers.Tokenizer:
  """A tokenizer that `models/networks/tokenizer.py` takes for one of CLIP's."""
  characters = [_UNKNOWN, ' ', '.', *SIGNS]
  tokenizer = tokenizers.Tokenizer(models.WordLevel(
      {character: i for i, character in enumerate(characters)},
      unk_token=_UNKNOWN))
  tokenizer.normalizer = normalizers.Sequence([
      normalizers.Replace(tokenizers.Regex(r'\s+'), ' '),
      normalizers.Lowercase(),
      *(normalizers.Replace(str(i), word) for i, word in enumerate(_DIGITS))])
  tokenizer.pre_tokenizer = pre_tokenizers.Split(
      tokenizers.Regex('.'), 'isolated')
  # The end of a sentence is where the largest id stands.
  tokenizer.add_special_tokens([tokenizer_lib.START, tokenizer_lib.END])
  return tokenizer


def sentence_ids(tokenizer: tokenizers.Tokenizer,
                 names: Sequence[Sequence[str]] = NAMES) -> np.ndarray:
  """Token ids of every sentence about every name.

  Args:
    tokenizer: from `build_tokenizer`.
    names: K lists of the names of L letters.

  Returns:
    int32 [L, K, M, T] for M sentences, T the length of the longest one.
  """
  texts = [text for of_letter in zip(*names, strict=True)
           for sentences in templates.sentences(of_letter, SENTENCES)
           for text in sentences]
  ids = tokenizer_lib.encode(tokenizer, texts)
  length = 1 + int(np.argmax(ids, axis=1).max())
  return ids[:, :length].reshape(-1, len(names), len(SENTENCES), length)


@dataclasses.dataclass(frozen=True)
class Source:
  """Where batches come from.

  Attributes:
    glyphs: of `letters.load_glyphs`.
    ids: int32 [26, K, M, T], sentences of the letters.
    seed: of everything random.
    num_groups: G.
  """

  glyphs: np.ndarray
  ids: np.ndarray
  seed: int
  num_groups: int

  def batch(self, step: int, part: int = letters.TRAIN
            ) -> tuple[np.ndarray, np.ndarray]:
    """Every letter once per group, in either case, beside a sentence of it.

    Returns:
      images [G, 26, 32, 32, 3] float32 in [0, 1], ids [G, 26, T] int32.
    """
    rng = np.random.default_rng([self.seed, part, step])
    letter = np.tile(np.arange(len(SIGNS)), self.num_groups)
    upper = rng.integers(2, size=letter.size) == 0
    labels = letter + np.where(upper, 0, len(SIGNS))
    name, sentence = (rng.integers(n, size=letter.size)
                      for n in self.ids.shape[1:3])
    images = letters.to_input(letters.draw_these(rng, labels, self.glyphs))
    split = lambda x: x.reshape(self.num_groups, len(SIGNS), *x.shape[1:])
    return split(images), split(self.ids[letter, name, sentence])
