# SPDX-License-Identifier: Apache-2.0
"""CLIP's tokenizer: ids by hand, published ids, files it is read from."""

import gzip
import json
import pathlib

import numpy as np
import pytest

from promptcl.models.networks import tokenizer as tokenizer_lib

MERGES = pathlib.Path(__file__).parents[1] / 'merges.txt'
START, END = 542, 543  # behind 2 * 256 bytes and 30 merges
A, PHOTO, OF, THE = 256 + ord('a') - 33, 512 + 4, 512, 512 + 6


@pytest.fixture(scope='module')
def tokenizer():
  return tokenizer_lib.load(str(MERGES))


def _ids(tokenizer, text, **options):
  [row] = tokenizer_lib.encode(tokenizer, [text], **options)
  return row[:np.argmax(row) + 1].tolist()


@pytest.mark.parametrize('text, inner', [
    ('a photo of the', [A, PHOTO, OF, THE]),
    ('  A\tPHOTO \n of THE ', [A, PHOTO, OF, THE]),
    ('', []),
    # Bytes of UTF-8, the second one with the mark of a word's end.
    ('é', [ord('Ã') - 68, 256 + ord('©') - 67]),
    ('e\u0301', [ord('Ã') - 68, 256 + ord('©') - 67]),  # composed first
    ('7!?', [256 + ord('7') - 33, ord('!') - 33, 256 + ord('?') - 33]),
    ('&amp;amp; a', [256 + ord('&') - 33, A]),
    ("a's", [A, ord("'") - 33, 256 + ord('s') - 33]),
    # `colour` was merged at the end of a word only.
    ('colours', [512 + 16, ord('r') - 33, 256 + ord('s') - 33]),
])
def test_ids_by_hand(tokenizer, text, inner):
  assert _ids(tokenizer, text) == [START, *inner, END]


def test_rows_are_filled_with_zeros(tokenizer):
  rows = tokenizer_lib.encode(tokenizer, ['a', 'the'], context_length=5)
  np.testing.assert_array_equal(
      rows, [[START, A, END, 0, 0], [START, THE, END, 0, 0]])
  assert rows.dtype == np.int32


def test_too_long_is_refused_or_cut(tokenizer):
  assert _ids(tokenizer, 'a a a', context_length=5) == [START, A, A, A, END]
  with pytest.raises(ValueError, match="6 tokens does not fit into 5: 'a a"):
    tokenizer_lib.encode(tokenizer, ['a a a a'], context_length=5)
  assert _ids(tokenizer, 'a a a the', context_length=5, truncate=True) == [
      START, A, A, A, END]


def test_all_ways_to_store_it_are_equal(tokenizer, tmp_path):
  whole, parts = tmp_path / 'whole', tmp_path / 'parts'
  whole.mkdir(), parts.mkdir()
  # What others put into such a file, we do ourselves or undo.
  stored = tokenizer_lib.load(str(MERGES))
  stored.enable_padding(length=7)
  stored.enable_truncation(4)
  stored.save(str(whole / 'tokenizer.json'))
  model = json.loads((whole / 'tokenizer.json').read_text())['model']
  (parts / 'vocab.json').write_text(json.dumps(model['vocab']))
  (parts / 'merges.txt').write_text(MERGES.read_text())
  packed = tmp_path / 'merges.txt.gz'
  packed.write_bytes(gzip.compress(MERGES.read_bytes()))
  texts = ['a photo of the green cat.', "don't 12 naïve 中文 🙂", '<b>&lt;']
  want = tokenizer_lib.encode(tokenizer, texts)
  for path in whole / 'tokenizer.json', whole, parts, packed:
    found = tokenizer_lib.encode(tokenizer_lib.load(str(path)), texts)
    np.testing.assert_array_equal(found, want, str(path))


@pytest.mark.parametrize('name, content, message', [
    ('absent', None, 'no tokenizer'),
    ('x.json', '{"a": 1}', 'no tokenizer.json|not a tokenizer.json'),
    ('x.txt', '#version\nonly_one\n', 'each must hold two symbols'),
    ('x.gz', 'no archive', 'no readable file of merges')])
def test_files_of_another_kind_are_one_line(name, content, message, tmp_path):
  path = tmp_path / name
  if content is not None:
    path.write_text(content)
  with pytest.raises((ValueError, FileNotFoundError), match=message) as raised:
    tokenizer_lib.load(str(path))
  assert '\n' not in str(raised.value)


def test_another_tokenizer_is_refused(tmp_path):
  import tokenizers
  path = str(tmp_path / 'tokenizer.json')
  tokenizers.Tokenizer(tokenizers.models.BPE()).save(path)
  with pytest.raises(ValueError, match='not a tokenizer of CLIP'):
    tokenizer_lib.load(path)


def test_published_merges_give_published_ids(shared):
  path = shared / 'data/clip_bpe_simple_vocab_16e6.txt.gz'
  if not path.is_file():
    pytest.skip(f'no {path}')
  tokenizer = tokenizer_lib.load(str(path))
  assert tokenizer.get_vocab_size() == 49408
  assert _ids(tokenizer, 'a photo of a cat.') == [
      49406, 320, 1125, 539, 320, 2368, 269, 49407]
  assert _ids(tokenizer, 'a photo of a black footed albatross, a type of bird.'
             ) == [49406, 320, 1125, 539, 320, 1449, 38040, 42797, 2158, 267,
                   320, 3877, 539, 3329, 269, 49407]
