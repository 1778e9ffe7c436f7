# SPDX-License-Identifier: Apache-2.0
"""VQ-Prompt: small numbers by hand, gradients, and what it refuses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from promptcl import configs
from promptcl.models.networks import backbones
from promptcl.models.parts import base
from promptcl.models.prompts import vq_prompt
from promptcl.train_lib import program as program_lib
from promptcl.train_lib import train
from promptcl.train_lib.core import parallel
from promptcl.train_lib.startup import startup
from promptcl.train_lib.steps import train_step as steps
from tests.helpers import fakes

pytestmark = pytest.mark.slow

# One block, two prompts of two tokens (one for keys, one for values), width 2.
KEYS = np.float32([[[3, 0], [0, 0.5]]])
POOL = np.float32([[[[1, 0], [0, 0]], [[0, 0], [0, 4]]]])
LN3 = np.log(3.0)
QUERIES = np.float32([[LN3, 0], [0, LN3]])  # weights 3/4 and 1/4, and reversed
MIXED = np.float32([[[0.75, 0], [0, 1]], [[0.25, 0], [0, 3]]])


def _prompt(**options):
  options = {'layers': (1,), 'num_heads': 1, 'width': 2, 'pool_size': 2,
             'length': 2, **options}
  return vq_prompt.VQPrompt(**options)


def _select(prompt, queries=QUERIES, params=None, mask=None, train=True):
  params = params or {'keys': KEYS, 'pool': POOL}
  return prompt.apply(
      {'params': params}, base.Query(cls=queries), jnp.int32(0), train=train,
      mask=mask, method='select')


def test_weights_mixture_and_nearest_element_by_hand():
  found = _select(_prompt())
  np.testing.assert_allclose(
      found.similarity, [[0.75, 0.25], [0.25, 0.75]], rtol=1e-6)
  # Distances of the first mixture: 1/16 + 1 and 9/16 + 9; of the second 9/16
  # + 9 and 1/16 + 1.
  np.testing.assert_array_equal(found.indices, [[0], [1]])
  np.testing.assert_array_equal(found.carry[0], POOL[0])
  mixed = _select(_prompt(quantize=False))
  np.testing.assert_allclose(mixed.carry[0], MIXED, rtol=1e-6)
  assert not mixed.losses and mixed.indices is None


def test_a_colder_softmax_and_a_query_of_unit_length():
  found = _select(_prompt(temperature=0.5)).similarity
  np.testing.assert_allclose(found[0], [0.9, 0.1], rtol=1e-5)  # 9 : 1
  long = _select(_prompt(normalize_query=True), 100 * QUERIES).similarity
  np.testing.assert_allclose(long[0, 0] / long[0, 1], np.e, rtol=1e-5)


def test_the_first_of_equally_near_elements_wins():
  pool = np.concatenate([POOL[:, ::-1], POOL[:, ::-1]], axis=1)
  found = vq_prompt.nearest(MIXED[None], pool)
  np.testing.assert_array_equal(found, [[1, 0]])
  halfway = np.float32([[[[0.5, 0], [0, 2]]]])
  assert vq_prompt.nearest(halfway, POOL).tolist() == [[0]]


def test_test_time_looks_up_as_training_does():
  for one, other in zip(jax.tree.leaves(_select(_prompt(), train=True)),
                        jax.tree.leaves(_select(_prompt(), train=False)),
                        strict=True):
    np.testing.assert_array_equal(one, other)


def test_values_are_rows_of_the_pool_to_the_last_bit():
  rng = np.random.default_rng(0)
  params = {'keys': rng.random((3, 5, 8), np.float32),
            'pool': rng.random((3, 5, 4, 8), np.float32)}
  prompt = _prompt(layers=(0, 1, 2), width=8, pool_size=5, length=4)
  found = _select(prompt, rng.normal(size=(7, 8)).astype(np.float32), params)
  for place in range(3):
    index = found.indices[:, place] - 5 * place
    assert np.all((index >= 0) & (index < 5))
    np.testing.assert_array_equal(
        found.carry[place], params['pool'][place][index])


def test_the_first_half_is_for_keys_and_other_blocks_get_nothing():
  prompt = _prompt(num_heads=2, width=4, length=4)
  carry = np.arange(32, dtype=np.float32).reshape(1, 2, 4, 4)
  params = {'keys': np.zeros((1, 2, 4)), 'pool': np.zeros((1, 2, 4, 4))}
  at = lambda layer: prompt.apply(
      {'params': params}, layer, np.zeros((2, 3, 4)), carry,
      method='at_layer')[0]
  assert at(0).prefix is None and at(0).tokens is None
  prefix = at(1).prefix
  assert prefix.shape == (2, 2, 2, 2, 2)
  np.testing.assert_array_equal(prefix[1, 0].ravel(), np.arange(16, 24))
  np.testing.assert_array_equal(prefix[1, 1].ravel(), np.arange(24, 32))


def test_where_the_gradient_of_the_prompt_goes():
  """All rows of the pool and the keys get some; the query none."""
  readout = jnp.float32([[[1, 2], [3, 4]], [[0, 1], [0, 0]]])

  def read(params, queries):
    return jnp.sum(readout * _select(_prompt(), queries, params).carry[0])

  grads, query = jax.grad(read, argnums=(0, 1))(
      {'keys': jnp.array(KEYS), 'pool': jnp.array(POOL)}, jnp.array(QUERIES))
  np.testing.assert_array_equal(query, 0)
  # Of the mixture, weighted: not of the chosen rows.
  np.testing.assert_allclose(
      grads['pool'][0],
      [0.75 * readout[0] + 0.25 * readout[1],
       0.25 * readout[0] + 0.75 * readout[1]], rtol=1e-6)
  assert np.any(grads['keys'])
  # Keys count by their direction alone.
  np.testing.assert_allclose(
      np.sum(grads['keys'] * KEYS, axis=-1), 0, atol=1e-6)


def test_the_penalties_and_what_each_moves_by_hand():
  chosen = POOL[0][None]
  # Differences -1/4, 1 and 1/4, -1, over 8 numbers.
  expected = 2 * (1 / 16 + 1) / 8
  found = vq_prompt.distances(MIXED[None], chosen, None)
  assert found['commitment'] == found['codebook'] == pytest.approx(expected)
  slope = 2 * (MIXED - chosen[0]) / 8
  for name, moves, sign in ('commitment', 0, 1), ('codebook', 1, -1):
    grads = jax.grad(lambda *x, name=name: vq_prompt.distances(*x, None)[name],
                     argnums=(0, 1))(jnp.array(MIXED[None]), jnp.array(chosen))
    np.testing.assert_allclose(grads[moves][0], sign * slope, atol=1e-7)
    np.testing.assert_array_equal(grads[1 - moves], 0)


def test_penalties_add_up_over_blocks_and_leave_out_padding():
  twice = jnp.stack([MIXED, MIXED]), jnp.stack([POOL[0], POOL[0]])
  one = vq_prompt.distances(MIXED[None], POOL[0][None], None)['codebook']
  assert vq_prompt.distances(*twice, None)['codebook'] == pytest.approx(2 * one)
  rows = [jnp.concatenate([x[None], 99 * jnp.ones((1, 1, 2, 2))], axis=1)
          for x in (MIXED, POOL[0])]
  rows[1] = rows[1].at[:, 2].set(7.0)
  masked = vq_prompt.distances(*rows, jnp.float32([1, 1, 0]))['codebook']
  assert masked == pytest.approx(one)


def test_the_weights_of_the_code_and_of_the_paper():
  backbone = backbones.create(fakes.VARIANT, image_size=8)
  build = lambda **changes: vq_prompt.build(
      fakes.config(**fakes.VQ_PROMPT, **changes), backbone,
      fakes.STREAM).loss_weights
  assert build() == {'commitment': 0.4, 'codebook': 0.1}
  assert build(**{'vq.commitment_weight': 0.1, 'vq.codebook_weight': 0.4}) == {
      'commitment': 0.1, 'codebook': 0.4}


def test_the_loss_of_a_step_contains_both_by_their_weights(tmp_path):
  """The slope of the whole loss in the weights is the penalties themselves."""
  program, _ = train.prepare(fakes.config(tmp_path, **fakes.VQ_PROMPT))
  *_, frozen, state = fakes.start(program.config)

  def run(weights, *args):
    method = dataclasses.replace(program.method, loss_weights=weights)
    return steps.make_gradients(program.config, program.model, method)(*args)[0]

  def loss(commitment=0.0, codebook=0.0):
    return float(compiled(
        {'commitment': commitment, 'codebook': codebook}, state, frozen, batch,
        fakes.task_info())[0])

  compiled = parallel.pmap(run, in_axes=(None, None, None, 0, None),
                           devices=jax.devices()[:1])
  batch = fakes.batch(4)
  batch = parallel.shard({name: batch[name] for name in ('image', 'label')},
                         jax.devices()[:1])
  plain = loss()
  commitment, codebook = loss(commitment=1.0), loss(codebook=1.0)
  assert commitment - plain == pytest.approx(codebook - plain, rel=1e-4)
  assert loss(commitment=0.4, codebook=0.1) - plain == pytest.approx(
      0.5 * (commitment - plain), rel=1e-4)
  assert commitment > plain


def test_parameters_of_the_published_size():
  config = configs.load('vq_prompt')
  config.init_checkpoint = program_lib.RANDOM
  program = program_lib.create(startup.expand(config), 100)
  _, trainable = program.split(program.shapes)
  count = lambda top: program_lib.num_elements({
      path: leaf for path, leaf in trainable.items() if path.startswith(top)})
  assert count('prompt/') == 5 * 10 * (8 * 768 + 768) == 345_600
  assert count('head/') == 76_900
  assert len(trainable) == 4


def test_start_values_are_never_negative():
  params = _prompt(pool_size=50).init(
      jax.random.key(0), base.Query(cls=QUERIES), jnp.int32(0), train=True,
      method='select')['params']
  for leaf in jax.tree.leaves(params):
    assert leaf.min() >= 0 and 0.9 < leaf.max() < 1


def test_prompt_usage_counts_the_elements_of_each_block(tmp_path):
  config = fakes.config(tmp_path, **fakes.VQ_PROMPT, num_epochs=1)
  results = train.train_and_evaluate(*train.prepare(config), str(tmp_path))
  counts = results.prompt_counts[-1]
  assert counts.shape == (3, 2 * 4)
  # Each of 14 test images of a set picks one element in either block.
  np.testing.assert_array_equal(
      counts.reshape(3, 2, 4).sum(axis=-1), np.full((3, 2), 14))


@pytest.mark.parametrize('changes, message', [
    ({'vq.length': 3}, 'vq.length 3 must be even'),
    ({'vq.layers': (0, 3)}, r'vq.layers \(0, 3\) must name each'),
    ({'vq.layers': (1, 1)}, r'vq.layers \(1, 1\) must name each'),
    ({'prompt_choice': 'random'}, "prompt_choice 'random' is for pools"),
])
def test_what_cannot_work_is_said(changes, message):
  config = fakes.config(**{**fakes.VQ_PROMPT, **changes})
  with pytest.raises(ValueError, match=message):
    startup.check(config)
    fakes.tiny_model(config)


def test_the_first_five_blocks_are_prompted_unless_told():
  config = fakes.config(**{**fakes.VQ_PROMPT, 'vq.layers': ()})
  for name, layers in (fakes.VARIANT, (0, 1, 2)), ('ViT-Ti_16', range(5)):
    backbone = backbones.create(name, image_size=16)
    prompt = vq_prompt.build(config, backbone, fakes.STREAM).prompt
    assert prompt.layers == tuple(layers)
