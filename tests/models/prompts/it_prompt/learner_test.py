# SPDX-License-Identifier: Apache-2.0
"""IT-Prompt's parts, by hand and against zero-shot CLIP."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from promptcl.models.heads import heads
from promptcl.models.parts import base
from promptcl.models.parts import class_statistics
from promptcl.models.prompts.it_prompt import learner as it_prompt
from promptcl.models.prompts.it_prompt import losses as it_losses

OPTIONS = types.SimpleNamespace(codebook=0.4, commitment=0.1, anchor=1.0)
KEYS = np.float32([[1, 0], [0, 2], [3, 3], [-1, 0]])


def _prompt(**changes):
  options = dict(num_tasks=3, num_classes=4, width=2, layers=(0, 2),
                 shape=(2, 4), num_heads=2, initializer='normal_002')
  prompt = it_prompt.ITPrompt(**{**options, **changes})
  params = {'fc_kernel': np.zeros((2, 2)), 'fc_bias': np.zeros(2),
            'keys': KEYS, 'scale': np.log(2.0), 'text': np.zeros((4, 2)),
            'prompts': np.arange(3 * 2 * 4 * 4.0).reshape(3, 2, 4, 4)}
  return prompt, {'params': params}


def _select(vectors, owner, *, train=False, task=-1, changes=(), **options):
  prompt, params = _prompt(**dict(changes))
  return prompt.apply(
      params, base.Query(embedding=np.float32(vectors)), jnp.int32(task),
      train=train, memory={'it_prompt': {'owner': np.int32(owner)}},
      method='select', **options)


def test_the_nearest_key_of_arrived_classes_tells_the_task():
  vectors = [[5, 1], [1, 1], [-3, 0.1]]
  owner = [0, 0, 1, 2]
  found = _select(vectors, owner)
  np.testing.assert_array_equal(found.indices, [[0], [1], [2]])
  cosine = found.similarity[1]
  np.testing.assert_allclose(cosine, [2**-0.5, 1, -(2**-0.5)], rtol=1e-6)
  # The last class has not arrived: its task is never chosen.
  found = _select(vectors, [0, 0, 1, -1])
  np.testing.assert_array_equal(found.indices, [[0], [1], [0]])


def test_the_sum_over_classes_may_tell_another_task_than_the_best_class():
  vector, owner = [[1.2, 1]], [0, 0, 1, 2]
  assert _select(vector, owner).indices[0, 0] == 1
  found = _select(vector, owner, changes={'sums_tasks': True})
  cosine = np.float64([1.2, 1, 2.2 / 2**0.5, -1.2]) / np.hypot(1.2, 1)
  p = np.exp(2 * cosine)
  p /= p.sum()
  np.testing.assert_allclose(
      found.similarity[0], [p[0] + p[1], p[2], p[3]], rtol=1e-5)
  assert found.indices[0, 0] == 0


def test_training_and_the_oracle_take_the_task_they_are_told():
  for told in ({'train': True}, {'choice': 'oracle'}):
    found = _select([[5, 1], [-3, 0]], [0, 0, 1, 2], task=1, **told)
    np.testing.assert_array_equal(found.indices, [[1], [1]])


def test_a_random_choice_is_among_tasks_that_have_begun():
  keys = jax.random.split(jax.random.key(0), 50)
  found = _select([[5, 1]] * 50, [0, 0, 1, -1], choice='random',
                  image_keys=keys)
  assert set(found.indices[:, 0].tolist()) == {0, 1}


def test_keys_stand_before_values_in_the_prefix_of_a_prompted_block():
  prompt, params = _prompt()
  carry = _select([[1, 1]], [0, 0, 1, 2]).carry  # [1, layers, 2 P, D]
  at = lambda layer: prompt.apply(
      params, layer, jnp.zeros((1, 5, 4)), carry, method='at_layer')[0]
  second = params['params']['prompts'][1, 1]
  np.testing.assert_array_equal(
      at(2).prefix, second.reshape(1, 2, 2, 2, 2))
  assert at(1).prefix is None and at(2).tokens is None


def test_the_query_is_residual():
  found = it_losses.query(
      jnp.float32([[3, 4]]), jnp.float32([[0, 1], [0, 0]]), jnp.float32([1, 0]))
  np.testing.assert_allclose(  # (.6, .8) + (0, .6) + (1, 0)
      found[0], np.float64([1.6, 1.4]) / np.hypot(1.6, 1.4), rtol=1e-6)


def test_codebook_moves_keys_alone_and_commitment_queries_alone():
  z, keys = jnp.float32([[1, 2], [2, -1]]), jnp.float32([[1, 0], [0, 1]])
  kernel = jnp.float32([[0.1, 0.2], [0.3, 0.4]])

  def terms(kernel, keys):
    q = it_losses.query(z, kernel, jnp.zeros(2))
    return [jnp.sum(x) for x in it_losses.quantization(
        q, it_losses._unit(keys))]

  for number, moved in ((0, 1), (1, 0)):
    grads = jax.grad(lambda *x, n=number: terms(*x)[n], argnums=(0, 1))(
        kernel, keys)
    assert np.any(grads[moved] != 0) and not np.any(grads[1 - moved])
  codebook, commitment = terms(kernel, keys)
  assert codebook == commitment > 0


def _context(**batch):
  stats = class_statistics.learned(
      class_statistics.empty(4, 1, 2), np.float32([[0, 1], [0, 3]]),
      np.array([1, 1]))
  memory = {'owner': np.int32([0, 0, 1, -1]), 'queries': stats,
            'features': stats, 'anchors': np.float32(
                [[1, 0], [1, 0], [0, 1], [0, 0]])}
  params = {'prompt/fc_kernel': jnp.zeros((2, 2)),
            'prompt/fc_bias': jnp.zeros(2), 'prompt/scale': jnp.log(2.0),
            'prompt/keys': jnp.asarray(KEYS),
            'head/kernel': jnp.asarray(KEYS.T), 'head/scale': jnp.log(3.0)}
  size = len(batch['label'])
  return base.RowContext(
      params=params, memory={'it_prompt': memory}, task=None,
      keys=jax.random.split(jax.random.key(1), size),
      batch={k: np.asarray(v) for k, v in batch.items()})


def test_the_selector_loss_by_hand():
  loss, logits, named = it_losses.selector_loss(OPTIONS, _context(
      vector=np.float32([[2, 0], [0, 1], [9, 9]]), label=[0, 2, 1],
      drawn=[False] * 3, weight=np.float32([1.5, 1.5, 0])))
  r = 2**-0.5
  want = np.array([[2, 0, 2 * r], [0, 2, 2 * r]])
  np.testing.assert_allclose(logits[:2, :3], want, atol=1e-6)
  assert np.all(logits[:, 3] < -1e20)
  ce = np.log(np.exp(want).sum(axis=1)) - want[[0, 1], [0, 2]]
  each = ce + 0.5 * np.array([0, r**2 + (1 - r)**2])
  anchor = (0 + 2 + r**2 + (1 - r)**2) / 3
  assert float(loss) == pytest.approx(each.mean() + anchor, rel=1e-5)
  terms = {name: float(value) for name, value in named.items()}
  assert terms['anchor'] == pytest.approx(anchor, rel=1e-5)
  assert sum(terms.values()) == pytest.approx(
      (each - ce).mean() + anchor, rel=1e-5)


def test_drawn_rows_are_of_their_class_whatever_the_vector():
  rows = dict(label=[1, 1], drawn=[True, True], weight=np.float32([1, 1]))
  some = [it_losses.selector_loss(OPTIONS, _context(
      vector=np.full((2, 2), x, np.float32), **rows))[1] for x in (1, 7)]
  np.testing.assert_array_equal(*some)
  # The draws are (about 0, about 2 +- 1): nearest to key 1.
  np.testing.assert_array_equal(np.argmax(some[0], axis=1), [1, 1])


def test_alignment_reads_draws_with_the_head():
  head = heads.CosineHead(4)
  context = _context(label=[1, 1, 1])
  loss, logits, _ = it_losses.alignment_loss(head, context)
  drawn = class_statistics.draw(
      context.memory['it_prompt']['features'], context.batch['label'],
      np.zeros(3, int), context.keys)
  cosine = np.array(it_losses._unit(drawn) @ it_losses._unit(KEYS).T)
  want = 3 * cosine[:, :3]
  np.testing.assert_allclose(logits[:, :3], want, rtol=1e-5)
  ce = np.log(np.exp(want).sum(axis=1)) - want[:, 1]
  assert float(loss) == pytest.approx(ce.mean(), rel=1e-5)


def test_the_guide_sees_sentences_of_classes_so_far():
  context = _context(label=[0])
  seen = base.LossContext(
      params={}, memory=context.memory, logits=None, task=None,
      batch={'label': np.array([2, 3])}, mask=jnp.float32([1, 0]), forward=None,
      pre_logits=jnp.float32([[0, 5], [1, 1]]), every_leaf=context.params)
  want = np.log(2 + np.exp(2)) - 2  # anchors of 0 and 1 are at right angles
  assert float(it_losses.text_guide(seen)['text_guide']) == pytest.approx(want)


def test_a_centroid_head_takes_the_nearest_one_where_a_class_has_some():
  head = heads.CentroidHead(2, num_centroids=2)
  params = {'kernel': np.float32([[1, 1], [0, 0]]), 'scale': np.log(2.0),
            'centroids': np.zeros((2, 2, 2), np.float32)}
  params['centroids'][1] = [[0, 3], [1, -1]]
  logits = head.apply({'params': params}, np.float32([[0, 1], [1, 0]]))
  np.testing.assert_allclose(logits, [[0, 2], [2, 2**0.5]], atol=1e-6)
