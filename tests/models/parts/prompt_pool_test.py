# SPDX-License-Identifier: Apache-2.0
"""The pool: start values, keys, gathering, handing on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from promptcl.models.parts import base
from promptcl.models.parts import matching
from promptcl.models.parts import prompt_pool
from tests.helpers import fakes

OPTIONS = dict(
    num_layers=2, pool_size=4, length=3, top_k=2, width=5, prefix=False,
    embedding_key='cls', prompt_key=True, prompt_key_init='uniform',
    initializer='uniform', batchwise_prompt=False, use_prompt_mask=False)


def _pool(**changes):
  return prompt_pool.PromptPool(**{**OPTIONS, **changes})


def _select(pool, params, query, task=0, *, train=False, vote=False,
            **options):
  return pool.apply({'params': params}, query, jnp.int32(task), train=train,
                    vote=vote, **options, method='select')


def _init(pool, seed=0):
  query = base.Query(cls=jnp.ones((1, 5)), patches=jnp.ones((1, 2, 5)))
  return pool.init(jax.random.key(seed), query, jnp.int32(0), train=False,
                   vote=False, mask=None, method='select')['params']


@pytest.mark.parametrize('changes, shapes', [
    ({}, {'prompt': (2, 4, 3, 5), 'key': (4, 5)}),
    (dict(prefix=True), {'prompt': (2, 2, 4, 3, 5), 'key': (4, 5)}),
    (dict(prompt_key=False), {'prompt': (2, 4, 3, 5)}),
])
def test_shapes(changes, shapes):
  params = _init(_pool(**changes))
  assert {name: leaf.shape for name, leaf in params.items()} == shapes


def test_uniform_start_is_between_zero_and_a_hundredth():
  for leaf in _init(_pool(length=300)).values():
    assert 0.0 <= leaf.min() < leaf.max() < 0.01
  big = _init(_pool(length=300))['prompt']
  assert float(big.mean()) == pytest.approx(0.005, rel=0.05)


def test_normal_start_has_a_deviation_of_a_hundredth():
  prompt = _init(_pool(length=300, initializer='normal'))['prompt']
  assert float(prompt.std()) == pytest.approx(0.01, rel=0.05)
  assert float(prompt.mean()) == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize('name, low, mean', [
    ('uniform_symmetric', -1.0, 0.0), ('uniform_unit', 0.0, 0.5)])
def test_wide_uniform_starts(name, low, mean):
  params = _init(_pool(length=300, initializer=name, prompt_key_init=name))
  prompt = np.asarray(params['prompt'])
  assert low <= prompt.min() < low + 0.01 and 0.99 < prompt.max() < 1.0
  assert prompt.mean() == pytest.approx(mean, abs=0.02)
  spread = (1.0 - low) / 12**0.5
  assert prompt.std() == pytest.approx(spread, rel=0.02)
  assert low <= params['key'].min() < mean < params['key'].max()


def test_keys_may_start_at_zero():
  params = _init(_pool(prompt_key_init='zero'))
  np.testing.assert_array_equal(params['key'], 0.0)
  assert params['prompt'].max() > 0


@pytest.mark.parametrize('name, expected', [
    ('cls', [7.0, 8.0]), ('mean', [2.0, -1.0]), ('max', [3.0, 0.0]),
    ('mean_max', [7.0, -2.0])])  # maximum + 2 * mean
def test_embedding_query_by_hand(name, expected):
  query = base.Query(cls=jnp.array([[7.0, 8.0]]),
                     patches=jnp.array([[[1.0, 0.0], [3.0, -2.0]]]))
  np.testing.assert_allclose(
      prompt_pool.embedding_query(query, name), [expected])


@pytest.mark.parametrize('prefix', [False, True])
def test_without_learned_keys_each_prompt_is_its_mean(prefix):
  pool = _pool(prefix=prefix, prompt_key=False)
  rng = np.random.default_rng(0)
  shape = (2, 2, 4, 3, 5) if prefix else (2, 4, 3, 5)
  prompt = rng.normal(size=shape).astype(np.float32)
  keys = pool.apply({'params': {'prompt': prompt}}, method='keys')
  for m in range(4):
    mine = prompt[..., m, :, :].reshape(-1, 5)
    np.testing.assert_allclose(keys[m], mine.mean(0), rtol=1e-5, atol=1e-6)


def _numbered(prefix):
  """A pool whose prompt m holds 100 * kind + 10 * m + position, by layer."""
  layers, kinds, pool, length = np.ogrid[0:2, 0:2, 0:4, 0:3]
  values = 1000 * layers + 100 * kinds + 10 * pool + length
  values = values if prefix else values[:, 0]
  prompt = np.repeat(values[..., None], 5, -1).astype(np.float32)
  return {'prompt': prompt, 'key': np.eye(4, 5, dtype=np.float32)}


def test_tokens_are_gathered_in_order_of_use():
  query = base.Query(cls=jnp.array([[0.1, 0.0, 0.9, 0.0, 0.0],
                                    [0.0, 0.9, 0.0, 0.1, 0.0]]))
  selection = _select(_pool(), _numbered(False), query)
  np.testing.assert_array_equal(selection.indices, [[2, 0], [1, 3]])
  assert selection.carry.shape == (2, 2, 6, 5)  # [n, B, K * P, D]
  np.testing.assert_array_equal(
      selection.carry[0, 0, :, 0], [20, 21, 22, 0, 1, 2])
  np.testing.assert_array_equal(
      selection.carry[1, 1, :, 4], [1010, 1011, 1012, 1030, 1031, 1032])


def test_prefixes_are_gathered_with_keys_and_values_apart():
  query = base.Query(cls=jnp.eye(5)[2:3])
  selection = _select(_pool(prefix=True, top_k=1), _numbered(True), query)
  assert selection.carry.shape == (2, 1, 2, 3, 5)  # [n, B, 2, K * P, D]
  np.testing.assert_array_equal(
      selection.carry[1, 0, :, :, 0], [[1020, 1021, 1022], [1120, 1121, 1122]])


def test_selection_votes_masks_and_pulls():
  params = _numbered(False)
  query = base.Query(cls=jnp.array([[1.0, 0.5, 0, 0, 0], [0, 0.5, 1.0, 0, 0],
                                    [0, 0, 0, 1.0, 0.1]]))
  pool = _pool(top_k=1)
  alone = _select(pool, params, query)
  np.testing.assert_array_equal(alone.indices, [[0], [2], [3]])
  voted = _select(pool, params, query, vote=True, mask=jnp.array([0.0, 1, 1]))
  np.testing.assert_array_equal(voted.indices, [[2], [2], [2]])
  # The voted key is pulled towards every real image: cosines 1 / 1.118 and 0.
  assert float(voted.losses['pull']) == pytest.approx(-0.894427 / 2, rel=1e-5)


@pytest.mark.parametrize('train, expected', [
    (True, [[2, 3]]), (False, [[0, 1]])])
def test_the_prompt_mask_holds_in_training_only(train, expected):
  query = base.Query(cls=jnp.array([[1.0, 0.5, 0, 0, 0]]))
  selection = _select(_pool(use_prompt_mask=True), _numbered(False), query, 1,
                      train=train)
  np.testing.assert_array_equal(selection.indices, expected)


QUERY = base.Query(cls=jnp.array([[1.0, 0.5, 0, 0, 0], [0, 0.5, 1.0, 0, 0]]))


@pytest.mark.parametrize('task, expected', [
    (1, [[2, 3], [2, 3]]), (2, [[0, 1], [2, 1]])])  # 2: beyond the pool
def test_an_oracle_uses_the_prompts_of_the_task(task, expected):
  selection = _select(_pool(), _numbered(False), QUERY, task, choice='oracle')
  np.testing.assert_array_equal(selection.indices, expected)


def test_a_random_choice_is_of_the_image_and_not_of_its_batch():
  places = jnp.array([5, 0])
  draw = lambda places: np.asarray(_select(
      _pool(), _numbered(False), QUERY, vote=True, choice='random',
      image_keys=matching.image_keys(3, jnp.int32(1), places)).indices)
  both = draw(places)
  np.testing.assert_array_equal(draw(places[::-1]), both[::-1])
  np.testing.assert_array_equal(
      draw(jnp.array([5, 7]))[0], both[0])


@pytest.mark.parametrize('changes, word', [
    ({'prompt_choice': 'oracle'}, 'use_prompt_mask'),
    ({'prompt_choice': 'random', 'use_e_prompt': False,
      'vit_classifier': 'token'}, 'use_e_prompt')])
def test_a_choice_that_means_nothing_is_refused(changes, word):
  with pytest.raises(ValueError, match=word):
    fakes.tiny_model(fakes.config(**changes))


def test_prefix_pairing_of_the_ports():
  """Slot (b, s) holds kind (2b + s) // B of image (2b + s) % B."""
  query = base.Query(cls=jnp.eye(5)[:3])  # images 0, 1, 2 pick 0, 1, 2
  options = dict(prefix=True, top_k=1)
  got = _select(_pool(**options, prefix_pairing='port'), _numbered(True),
                query).carry
  assert got.shape == (2, 3, 2, 3, 5)
  # Kind 0 of images 0, 1, 2, then kind 1 of them, cut into threes of pairs.
  np.testing.assert_array_equal(
      got[0, :, :, 0, 0], [[0, 10], [20, 100], [110, 120]])
  right = _select(_pool(**options), _numbered(True), query).carry
  np.testing.assert_array_equal(
      right[0, :, :, 0, 0], [[0, 100], [10, 110], [20, 120]])


def _params():
  rng = np.random.default_rng(0)
  shapes = {'prompt/prompt_pool/prompt': (2, 5, 3, 4),
            'prompt/prompt_pool/key': (5, 4), 'head/kernel': (4, 2)}
  return {path: rng.normal(size=shape).astype(np.float32)
          for path, shape in shapes.items()}


def test_hand_on_copies_the_previous_slots():
  before = _params()
  after = prompt_pool.hand_on(before, 1, top_k=2, names=('prompt', 'key'))
  for name, axis in (('prompt', -3), ('key', -2)):
    path = f'prompt/prompt_pool/{name}'
    old, new = (np.moveaxis(np.asarray(p[path]), axis, 0)
                for p in (before, after))
    np.testing.assert_array_equal(new[2:4], old[0:2])
    np.testing.assert_array_equal(new[[0, 1, 4]], old[[0, 1, 4]])
  np.testing.assert_array_equal(after['head/kernel'], before['head/kernel'])


def test_hand_on_of_prefixes_finds_the_pool_axis():
  path = 'prompt/prompt_pool/prompt'
  prompt = jnp.arange(2 * 2 * 3 * 1 * 2.0).reshape(2, 2, 3, 1, 2)
  after = prompt_pool.hand_on({path: prompt}, 2, top_k=1, names=('prompt',))
  np.testing.assert_array_equal(after[path][:, :, 2], prompt[:, :, 1])
  np.testing.assert_array_equal(after[path][:, :, :2], prompt[:, :, :2])


@pytest.mark.parametrize('task, names', [
    (0, ('prompt', 'key')), (2, ('prompt', 'key')), (1, ())])
def test_hand_on_does_nothing(task, names):
  """At the first task, beyond the pool (slots 4 and 5 of 5), or unasked."""
  before = _params()
  after = prompt_pool.hand_on(before, task, top_k=2, names=names)
  jax.tree.map(np.testing.assert_array_equal, before, after)


def test_hand_on_without_keys():
  before = _params()
  del before['prompt/prompt_pool/key']
  after = prompt_pool.hand_on(before, 1, top_k=2, names=('prompt', 'key'))
  assert set(after) == set(before)
