# SPDX-License-Identifier: Apache-2.0
"""Sentences of learned context and names, and who reads which of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from promptcl.models.heads import heads
from promptcl.models.heads import sentence_head
from promptcl.models.networks import backbones
from promptcl.models.networks import text
from promptcl.models.networks import tokenizer as tokenizer_lib
from promptcl.train_lib.steps import optimizer as optimizer_lib
from tests.helpers import fakes

CLIP = backbones.create('CLIP-testing', image_size=8)
SIZES = (1, 3, 2)


def _head(**changes):
  ids = np.arange(12, dtype=np.int32).reshape(6, 2)
  return sentence_head.SentenceHead(**{
      'ids': tuple(map(tuple, ids.tolist())), 'sizes': SIZES, 'width': 4,
      'joint_width': 5, 'length': 2, **changes})


def _vectors(head, context, classes=None):
  """With a reader that only adds: sums of ids and of context."""
  def read(ids, context):
    return jnp.sum(ids, axis=1)[:, None] * jnp.arange(1.0, 6) + jnp.sum(context)

  return head.apply({'params': {'context': context}}, read, classes,
                    method='vectors')


def test_each_class_is_read_with_the_context_of_its_task():
  context = np.zeros((3, 2, 4), np.float32)
  context[:, 0, 0] = 10, 20, -7
  want = np.array([[sum(row) * e + shift for e in range(1, 6)]
                   for row, shift in zip(
                       [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (10, 11)],
                       (10, 20, 20, 20, -7, -7), strict=True)], np.float64)
  want /= np.linalg.norm(want, axis=1, keepdims=True)
  np.testing.assert_allclose(_vectors(_head(), context), want, atol=1e-6)
  asked = np.arange(6) == 2
  found = np.asarray(_vectors(_head(), context, asked))
  np.testing.assert_allclose(found[1:4], want[1:4], atol=1e-6)
  assert not np.any(found[[0, 4, 5]])


def test_gradients_reach_the_contexts_that_are_read():
  context = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)
  weight = np.random.default_rng(1).normal(size=(6, 5))
  asked = np.isin(np.arange(6), (0, 5))
  grad = jax.grad(lambda c: jnp.sum(
      weight * _vectors(_head(), c, asked)))(context)
  assert jnp.any(grad, axis=(1, 2)).tolist() == [True, False, True]


def test_similarity_is_of_directions():
  vectors = np.eye(2, 3, dtype=np.float32) * 7
  logits = _head().apply({'params': {'context': np.zeros((3, 2, 4))}},
                         np.array([[30.0, 40.0, 0.0]]), vectors)
  np.testing.assert_allclose(logits, [[7 * 0.6, 7 * 0.8]], rtol=1e-6)


def test_contexts_of_other_tasks_rest():
  rates = _head().rates()
  found = optimizer_lib.task_rates(
      rates, [sentence_head.CONTEXT], fakes.task_info(classes=(1, 2, 3)))
  assert found[sentence_head.CONTEXT].ravel().tolist() == [0, 1, 0]


@pytest.mark.parametrize('changes, sizes', [
    ({}, (2, 2, 2)),
    ({'continual.init_cls': 3, 'continual.inc_cls': 2}, (3, 2, 1)),
    ({'continual.scenario': 'domain'}, (6,))])
def test_which_classes_share_a_context(changes, sizes):
  config = fakes.config(**fakes.CLIP_PROMPTS, **changes)
  head = heads.create(config, 6, CLIP)
  assert head.sizes == sizes and len(set(head.ids)) == 6


def test_places_of_the_context_are_one_token_each():
  config = fakes.config(**fakes.CLIP_PROMPTS)
  ids = text.name_ids(config, CLIP.text_shape, ('cat', 'maple_tree'))
  tokenizer = tokenizer_lib.load(str(fakes.MERGES))
  plain = tokenizer_lib.encode(tokenizer, ['cat.', 'maple tree.'])
  length = int(np.argmax(plain, axis=1).max())
  np.testing.assert_array_equal(ids[:, 0], plain[:, 0])
  assert len(np.unique(ids[:, 1:5])) == 1
  np.testing.assert_array_equal(ids[:, 5:5 + length], plain[:, 1:1 + length])
  assert ids.shape[1] % 16 == 0


@pytest.mark.parametrize('changes, message', [
    ({'model_name': 'testing'}, 'testing is none of CLIP'),
    ({'text.context_tokens': 75}, 'context_tokens 75 leaves no room'),
    ({'task_heads': True}, 'task_heads has linear heads'),
    ({'text.tokenizer': 'no/such'}, "no tokenizer 'no/such'"),
    ({'continual.num_tasks': 4}, 'head sentences: 6 classes do not divide')])
def test_heads_that_cannot_be(changes, message):
  config = fakes.config(**{**fakes.CLIP_PROMPTS, **changes})
  backbone = backbones.create(config.model_name, image_size=8)
  with pytest.raises((ValueError, FileNotFoundError), match=message) as raised:
    heads.create(config, 6, backbone, tuple('abcdef'))
  assert '\n' not in str(raised.value)
