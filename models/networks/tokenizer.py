# SPDX-License-Identifier: Apache-2.0
"""CLIP's tokenizer: byte-pair encoding of lower-cased text.

  tokenizer = load('clip-vit-base-patch16/tokenizer.json')
  ids = encode(tokenizer, ['a photo of a cat.'])      # int32 [1, 77]

A row is the start token, the text, the end token and zeros.  Ids are those of
openai/CLIP `clip/simple_tokenizer.py`, which repairs mojibake (ftfy) before;
that is left out, so only text that needs it differs.
"""

from collections.abc import Sequence
import gzip
import html
import json
import os
import zlib

from etils import epy
import numpy as np

with epy.lazy_imports():  # steps are measured where it is not installed
  import tokenizers

START, END = '<|startoftext|>', '<|endoftext|>'
FILES = 'tokenizer.json', 'vocab.json', 'merges.txt'
_WORD_END = '</w>'
_NUM_MERGES = 48894  # OpenAI's file holds more, which CLIP does not use
# Contractions, runs of letters, single digits, runs of anything else but space.
_PIECES = (r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")


def load(path: str) -> 'tokenizers.Tokenizer':
  """Reads a tokenizer.

  Args:
    path: a `tokenizer.json`; merges as OpenAI publishes them
      (`bpe_simple_vocab_16e6.txt.gz`, also unpacked); or a folder with
      `tokenizer.json`, or with `vocab.json` and `merges.txt`.

  Raises:
    FileNotFoundError: nothing of that kind there.
    ValueError: the file does not hold what its name says.
  """
  if os.path.isdir(path):
    whole, vocabulary, merges = (os.path.join(path, name) for name in FILES)
    if not os.path.isfile(whole) and os.path.isfile(vocabulary):
      return _built(_read_json(vocabulary), _read_merges(merges))
    path = whole
  if not os.path.isfile(path):
    raise FileNotFoundError(f'no tokenizer {path!r}: set config.text.tokenizer '
                            'to a tokenizer.json or to a file of merges')
  if path.endswith('.json'):
    return _from_json(path)
  merges = _read_merges(path)[:_NUM_MERGES]
  return _built(_vocabulary(merges), merges)


def encode(tokenizer: 'tokenizers.Tokenizer', texts: Sequence[str], *,
           context_length: int = 77, truncate: bool = False) -> np.ndarray:
  """Token ids of texts.

  Args:
    tokenizer: from `load`.
    texts: N texts of any kind.
    context_length: T, length of a row.
    truncate: cut what is too long, and let it end with the end token.

  Returns:
    int32 [N, T], zeros behind the end token.

  Raises:
    ValueError: a text that is too long.
  """
  start, end = map(tokenizer.token_to_id, (START, END))
  rows = np.zeros((len(texts), context_length), np.int32)
  found = tokenizer.encode_batch(list(map(_clean, texts)),
                                 add_special_tokens=False)
  for row, text, encoding in zip(rows, texts, found, strict=True):
    ids = [start, *encoding.ids, end]
    if len(ids) > context_length:
      if not truncate:
        raise ValueError(f'a text of {len(ids)} tokens does not fit into '
                         f'{context_length}: {text[:60]!r}')
      ids = [*ids[:context_length - 1], end]
    row[:len(ids)] = ids
  return rows


def _clean(text: str) -> str:
  """As the original does before it looks for tokens."""
  return html.unescape(html.unescape(text)).strip()


def _from_json(path: str) -> 'tokenizers.Tokenizer':
  try:
    tokenizer = tokenizers.Tokenizer.from_file(path)
  except Exception as e:  # the library raises nothing more precise
    raise ValueError(f'{path!r} is not a tokenizer.json that can be read: '
                     f'{" ".join(str(e).split())}') from e
  if None in map(tokenizer.token_to_id, (START, END)):
    raise ValueError(f'{path!r} is not a tokenizer of CLIP: it has no {START} '
                     f'or no {END}')
  tokenizer.no_padding()
  tokenizer.no_truncation()
  return tokenizer


def _built(vocabulary: dict[str, int], merges: list[tuple[str, str]]
           ) -> 'tokenizers.Tokenizer':
  """The tokenizer of a vocabulary and merges, as `tokenizers` has it."""
  normal, pieces = tokenizers.normalizers, tokenizers.pre_tokenizers
  tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(
      vocab=vocabulary, merges=merges, end_of_word_suffix=_WORD_END))
  tokenizer.normalizer = normal.Sequence([
      normal.NFC(), normal.Replace(tokenizers.Regex(r'\s+'), ' '),
      normal.Lowercase()])
  tokenizer.pre_tokenizer = pieces.Sequence([
      pieces.Split(tokenizers.Regex(_PIECES), 'removed', invert=True),
      pieces.ByteLevel(add_prefix_space=False, use_regex=False)])
  tokenizer.add_special_tokens([START, END])
  return tokenizer


def _vocabulary(merges: list[tuple[str, str]]) -> dict[str, int]:
  """Bytes, bytes that end a word, what merges make, start and end."""
  printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
  symbols = [*map(chr, printable),
             *(chr(256 + i) for i in range(256 - len(printable)))]
  words = [*symbols, *(symbol + _WORD_END for symbol in symbols),
           *map(''.join, merges), START, END]
  return {word: number for number, word in enumerate(words)}


def _read_merges(path: str) -> list[tuple[str, str]]:
  """Pairs of a file with a header line, packed or not."""
  opener = gzip.open if path.endswith('.gz') else open
  try:
    with opener(path, 'rt', encoding='utf-8') as file:
      lines = file.read().split('\n')[1:]
  except FileNotFoundError as e:
    raise FileNotFoundError(f'no file of merges {path!r}') from e
  except (OSError, EOFError, UnicodeDecodeError, zlib.error) as e:
    raise ValueError(f'{path!r} is no readable file of merges: {e}') from e
  pairs = [tuple(line.split(' ')) for line in lines if line]
  if not pairs or any(len(pair) != 2 for pair in pairs):
    raise ValueError(f'{path!r} is no file of merges: after its first line '
                     'each must hold two symbols')
  return pairs


def _read_json(path: str) -> dict[str, int]:
  try:
    with open(path, encoding='utf-8') as file:
      return json.load(file)
  except ValueError as e:
    raise ValueError(f'{path!r} is no readable vocabulary: {e}') from e
