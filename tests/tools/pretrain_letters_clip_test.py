# SPDX-License-Identifier: Apache-2.0
"""Letters' names, the two towers' pretraining, and the files that ship."""

import functools
import pathlib

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from promptcl.models.networks import backbones
from promptcl.models.networks import clip
from promptcl.models.networks import tokenizer as tokenizer_lib
from promptcl.tools import letter_names
from promptcl.tools import letters
from promptcl.tools import pretrain_letters_clip
from tests.helpers import fakes

pytestmark = pytest.mark.slow

SHIPPED = pathlib.Path(__file__).parents[2] / 'models/weights/letters_clip'


@pytest.fixture(scope='module')
def tokenizer():
  return letter_names.build_tokenizer()


@pytest.fixture(scope='module')
def source(tokenizer):
  return letter_names.Source(
      letters.load_glyphs(), letter_names.sentence_ids(tokenizer), seed=5,
      num_groups=2)


@pytest.fixture(scope='module')
def model():
  """Small towers for the same tokenizer."""
  return clip.Clip(
      patch_size=8, width=16, depth=1, num_heads=2, mlp_dim=16, image_size=32,
      traits=clip.TRAITS, joint_width=8, text_shape=clip.TextShape(
          width=8, depth=1, num_heads=2, mlp_dim=8, vocabulary=31))


@pytest.fixture(scope='module')
def shipped():
  return pretrain_letters_clip.load(str(SHIPPED))


@pytest.fixture(scope='module')
def loss(model):
  return jax.jit(functools.partial(
      pretrain_letters_clip.loss_fn, model=model))


@pytest.fixture(scope='module')
def drawings(source):
  """260, of another seed than those of the training, in order of letters."""
  return np.concatenate([source.batch(
      step, letters.HELD_OUT)[0].reshape(-1, 32, 32, 3) for step in range(5)])


def test_names_are_apart_and_no_digit():
  names = [name for kind in letter_names.NAMES for name in kind]
  assert {len(kind) for kind in letter_names.NAMES} == {26}
  # Vowels are called what they look like; nothing else is called twice.
  assert len(set(names)) == 3 * 26 - 5
  assert set(''.join(names)) <= set('abcdefghijklmnopqrstuvwxyz ')
  assert not set(names) & {'zero', 'one', 'two', 'three', 'four', 'five', 'six',
                           'seven', 'eight', 'nine'}


def test_tokens_are_characters_and_digits_are_written_out(tokenizer):
  encode = lambda *texts: tokenizer_lib.encode(
      tokenizer, texts, context_length=12)
  a, blank, stop = (tokenizer.token_to_id(t) for t in 'a .')
  start, end = tokenizer.get_vocab_size() - 2, tokenizer.get_vocab_size() - 1
  np.testing.assert_array_equal(
      encode('A  ca.')[0, :7], [start, a, blank, a + 2, a, stop, end])
  assert not encode('A  ca.')[0, 7:].any()
  np.testing.assert_array_equal(encode('7'), encode('seven'))
  assert encode('é')[0, 1] == tokenizer.token_to_id('?')
  assert encode('é')[0, 1] not in encode('abc . xyz')[0, :11]


def test_a_saved_tokenizer_is_one_for_clip(tokenizer, tmp_path):
  tokenizer.save(str(tmp_path / 'tokenizer.json'))
  loaded = tokenizer_lib.load(str(tmp_path))
  assert loaded.get_vocab_size() == (
      clip.VARIANTS['CLIP-letters'].text_shape.vocabulary)
  texts = ['a photo of a 3.', 'Zulu']
  np.testing.assert_array_equal(tokenizer_lib.encode(loaded, texts),
                                tokenizer_lib.encode(tokenizer, texts))


def test_every_sentence_of_a_letter_names_it(tokenizer):
  ids = letter_names.sentence_ids(tokenizer)
  assert ids.shape[:3] == (26, 3, len(letter_names.SENTENCES))
  want = tokenizer_lib.encode(tokenizer, ['the letter bravo.'])[0]
  at = letter_names.SENTENCES.index('the letter {}.')
  np.testing.assert_array_equal(ids[1, 2, at], want[:ids.shape[-1]])


def test_a_group_holds_every_letter_once_beside_its_name(source):
  images, ids = source.batch(3)
  assert images.shape == (2, 26, 32, 32, 3) and ids.shape[:2] == (2, 26)
  for group in ids:
    for letter, row in enumerate(group):
      assert (source.ids[letter] == row).all(axis=-1).any()
  again, ids_again = source.batch(3)
  np.testing.assert_array_equal(images, again)
  np.testing.assert_array_equal(ids, ids_again)
  for other in source.batch(4), source.batch(3, letters.HELD_OUT):
    assert not np.array_equal(images, other[0])


def test_the_loss_is_that_of_clip(model, source, loss):
  params = fakes.arrays_of(model)
  tree = _tree(params)
  images, ids = source.batch(0)
  embed = jax.jit(functools.partial(pretrain_letters_clip.embed_images, model))
  encode = jax.jit(functools.partial(model.apply, method='encode_text'))
  total = 0.0
  for group, rows in zip(images, ids, strict=True):
    a = np.asarray(embed(tree, group))
    b = np.asarray(encode({'params': tree}, rows))
    np.testing.assert_allclose(np.linalg.norm(a, axis=1), 1, rtol=1e-4)
    logits = np.exp(params[clip.SCALE]) * a @ (
        b / np.linalg.norm(b, axis=1, keepdims=True)).T
    for x in logits, logits.T:
      total -= np.log(np.exp(np.diag(x)) / np.exp(x).sum(axis=1)).mean() / 4
  assert float(loss(tree, images, ids)) == pytest.approx(total, rel=1e-4)


def _tree(params):
  return traverse_util.unflatten_dict(
      {path: jnp.asarray(array) for path, array in params.items()}, sep='/')


def test_training_lowers_the_loss_and_repeats_exactly(model, source, loss):
  first, second = (pretrain_letters_clip.train(
      model, source, num_steps=3) for _ in range(2))
  jax.tree.map(np.testing.assert_array_equal, first, second)
  start = pretrain_letters_clip.start_params(model, source.seed)
  before, after = (float(loss(params, *source.batch(0)))
                   for params in (start, first))
  assert after < before


def test_what_is_saved_is_loaded(tokenizer, tmp_path):
  model = backbones.create('CLIP-letters', image_size=letters.CROP_SIZE)
  params = _tree(fakes.arrays_of(model))
  pretrain_letters_clip.save(str(tmp_path / 'new'), params, tokenizer)
  assert sorted(p.name for p in (tmp_path / 'new').iterdir()) == [
      'tokenizer.json', 'weights.npz']
  _, loaded = pretrain_letters_clip.load(str(tmp_path / 'new'))
  jax.tree.map(
      lambda a, b: np.testing.assert_array_equal(np.float16(a), b),
      params, loaded)


def test_shipped_files_are_small_and_of_the_tool(tokenizer):
  assert sum(p.stat().st_size for p in SHIPPED.iterdir()) < 2_000_000
  with np.load(SHIPPED / 'weights.npz', allow_pickle=False) as file:
    assert {file[k].dtype for k in file.files if k != 'meta'} == {
        np.dtype(np.float16)}
  stored = tokenizer_lib.load(str(SHIPPED))
  assert stored.to_str() == tokenizer.to_str()


def test_shipped_towers_have_the_shapes_of_their_variant(shipped):
  model, params = shipped
  images = letters.to_input(np.zeros((2, 8, 8)))
  image = jax.eval_shape(functools.partial(
      pretrain_letters_clip.embed_images, model), params, images)
  ids = np.zeros((3, 16), np.int32)
  text = jax.eval_shape(functools.partial(
      model.apply, method='encode_text'), {'params': params}, ids)
  assert image.shape == (2, 64) and text.shape == (3, 64)


@pytest.mark.parametrize('kind', range(len(letter_names.NAMES)))
def test_shipped_towers_name_new_drawings_of_letters(
    kind, shipped, source, drawings):
  """Chance is 4 %."""
  found = pretrain_letters_clip.zero_shot(
      *shipped, drawings, source.ids[:, kind])
  assert np.mean(found == np.tile(np.arange(26), 10)) > 0.7


def test_shipped_sentences_about_digits_are_apart(shipped, tokenizer):
  """Words of known letters; nearest are six and seven, both much like s."""
  model, params = shipped
  ids = letter_names.sentence_ids(tokenizer, [list(map(str, range(10)))])
  encode = jax.jit(functools.partial(model.apply, method='encode_text'))
  vectors = np.asarray(encode({'params': params}, ids[:, 0, 0]))
  vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
  cosine = vectors @ vectors.T
  assert np.sort(cosine[np.triu_indices(10, 1)])[-2] < 0.8
  assert cosine[6, 7] < 0.97
