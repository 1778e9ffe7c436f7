# SPDX-License-Identifier: Apache-2.0
"""Parameters: who trains, who is frozen, and that nothing is held twice."""

import jax
import numpy as np
import optax
import pytest

from promptcl.models.parts import base
from promptcl.train_lib import program as program_lib
from promptcl.train_lib.core import state as state_lib
from tests.helpers import fakes

PARAMS = {
    'backbone/embedding/kernel': np.ones(1),
    'backbone/cls': np.ones(2),
    'backbone/Transformer/encoderblock_0/LayerNorm_0/scale': np.ones(3),
    'backbone/Transformer/encoder_norm/scale': np.ones(4),
    'prompt/prompt_pool/key': np.ones(5),
    'prompt/prefix': np.ones(6),
    'head/kernel': np.ones(7)}
FREEZE = ('encoder', 'embedding', 'cls')
BACKBONE = {path for path in PARAMS if path.startswith('backbone/')}


@pytest.mark.parametrize('path, original', [
    ('backbone/cls', '/cls'), ('head/kernel', '/head/kernel'),
    ('prompt/prompt_pool/key', '/prompt_pool/key'),
    ('backbone/Transformer/encoder_norm/bias',
     '/Transformer/encoder_norm/bias')])
def test_paths_of_the_original(path, original):
  assert state_lib.original_path(path) == original


def test_flatten_and_variables_are_inverse():
  nested = {'a': {'b': 1, 'c': {'d': 2}}}
  flat = state_lib.flatten(nested)
  assert flat == {'a/b': 1, 'a/c/d': 2}
  assert state_lib.variables(flat) == {'params': nested}


@pytest.mark.parametrize('freeze, trains', [
    (FREEZE, {'prompt/prompt_pool/key', 'prompt/prefix', 'head/kernel'}),
    (('/cls',), set(PARAMS) - {'backbone/cls'}),
    (('kernel',), set(PARAMS) - {'backbone/embedding/kernel', 'head/kernel'}),
    ((), set(PARAMS)),
])
def test_which_leaves_train(freeze, trains):
  assert state_lib.trainable_paths(PARAMS, freeze) == trains


def test_a_rule_that_freezes_nothing_is_an_error():
  with pytest.raises(ValueError, match="'encodr'"):
    state_lib.trainable_paths(PARAMS, ('cls', 'encodr'))


def test_frozen_parts_may_be_thawed_by_rule():
  norms = r'backbone/.*(LayerNorm_\d|encoder_norm)/.*'
  thawed = {'backbone/Transformer/encoderblock_0/LayerNorm_0/scale',
            'backbone/Transformer/encoder_norm/scale'}
  assert state_lib.trainable_paths(PARAMS, FREEZE, (norms,)) == thawed | {
      'prompt/prompt_pool/key', 'prompt/prefix', 'head/kernel'}
  frozen, trainable = state_lib.partition(PARAMS, FREEZE, (norms,),
                                          query_pass=True)
  assert set(frozen) == BACKBONE and thawed < set(trainable)
  frozen, _ = state_lib.partition(PARAMS, FREEZE, (norms,), query_pass=False)
  assert set(frozen) == BACKBONE - thawed


@pytest.mark.parametrize('rule', ['LayerNorm_0', 'backbone/clss'])
def test_a_rule_that_thaws_nothing_is_an_error(rule):
  """Rules match whole paths."""
  with pytest.raises(ValueError, match=f'thaw {rule!r}'):
    state_lib.trainable_paths(PARAMS, FREEZE, (rule,))


@pytest.mark.parametrize('query_pass', [True, False])
def test_frozen_and_trainable_share_no_leaf_while_the_backbone_rests(
    query_pass):
  frozen, trainable = state_lib.partition(PARAMS, FREEZE,
                                          query_pass=query_pass)
  assert set(frozen) == BACKBONE
  assert set(trainable) == set(PARAMS) - BACKBONE


def test_the_query_keeps_a_pristine_copy_of_what_trains():
  frozen, trainable = state_lib.partition(PARAMS, (), query_pass=True)
  assert set(frozen) == BACKBONE
  assert set(trainable) == set(PARAMS)
  frozen, trainable = state_lib.partition(PARAMS, (), query_pass=False)
  assert frozen == {} and set(trainable) == set(PARAMS)


def test_trainable_leaves_lie_over_frozen_ones():
  assert state_lib.overlay({'a': 1, 'b': 2}, {'b': 3, 'c': 4}) == {
      'a': 1, 'b': 3, 'c': 4}


@pytest.fixture(scope='module')
def program(tmp_path_factory):
  config = fakes.config(tmp_path_factory.mktemp('weights'))
  return program_lib.create(config, fakes.NUM_CLASSES)


def test_a_run_starts_from_file_and_holds_the_backbone_once(program):
  frozen, state = program.start()
  stored = fakes.backbone_arrays()
  assert set(frozen) == {f'backbone/{path}' for path in stored}
  for path, array in stored.items():
    np.testing.assert_array_equal(frozen[f'backbone/{path}'], array)
  assert set(state.params) == {
      'head/kernel', 'head/bias', 'prompt/prompt_pool/prompt',
      'prompt/prompt_pool/key'}
  assert not set(frozen) & set(state.params)
  assert not np.any(state.params['head/kernel'])
  assert state.step == 0 and state.memory == {}
  moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
  assert len(moments) == 2 * len(state.params)


def test_start_values_depend_on_the_seed_alone(program):
  first, again = program.start()[1].params, program.start()[1].params
  jax.tree.map(np.testing.assert_array_equal, first, again)
  other = program_lib.create(fakes.changed(program.config, seed=4),
                             fakes.NUM_CLASSES).start()[1].params
  assert not np.array_equal(first['prompt/prompt_pool/key'],
                            other['prompt/prompt_pool/key'])


def test_shapes_are_known_before_anything_is_computed(program):
  frozen, state = program.start()
  whole = state_lib.overlay(frozen, state.params)
  assert {path: leaf.shape for path, leaf in program.shapes.items()} == {
      path: leaf.shape for path, leaf in whole.items()}
  assert program_lib.num_elements(program.shapes) == sum(
      leaf.size for leaf in whole.values())


def test_a_new_optimizer_forgets_moments_and_nothing_else():
  optimizer = optax.adam(0.1)
  method = base.Method(base.Prompt(), memory=lambda params: {'m': np.ones(2)})
  state = state_lib.create({'head/kernel': np.ones(3)}, method, optimizer)
  _, moved = optimizer.update({'head/kernel': np.ones(3)}, state.opt_state)
  state = state.replace(step=np.int32(5), opt_state=moved,
                        params={'head/kernel': np.full(3, 2.0)})
  fresh = state_lib.with_new_optimizer(state, optimizer)
  assert any(np.any(leaf) for leaf in jax.tree.leaves(state.opt_state))
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(fresh.opt_state))
  assert fresh.step == 5
  np.testing.assert_array_equal(fresh.params['head/kernel'], 2.0)
  np.testing.assert_array_equal(fresh.memory['m'], 1.0)
