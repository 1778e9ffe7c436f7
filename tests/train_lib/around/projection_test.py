# SPDX-License-Identifier: Apache-2.0
"""Gradient projection in real runs: what it collects, keeps and reports."""

import functools

import jax
import numpy as np
import pytest

from promptcl.models.parts import base
from promptcl.train_lib import train
from promptcl.train_lib.around import projection
from tests.helpers import fakes
from tests.helpers.projections import CLIP
from tests.helpers.projections import DUAL
from tests.helpers.projections import L2P
from tests.helpers.projections import QUERY
from tests.helpers.projections import Setting
from tests.helpers.projections import WIDTH

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def inputs(tmp_path_factory):
  return tmp_path_factory.mktemp('inputs')


def test_off_is_the_very_same_method():
  config = fakes.config()
  method = base.Method(base.Prompt())
  assert not config.pgp.enabled
  assert projection.wrap(method, config) is method


@pytest.mark.parametrize('changes, message', [
    ({'method': 'none', 'vit_classifier': 'token'}, 'finds no prompt'),
    ({'e_prompt_layer_idx': (0, 1)}, 'prompt tokens in layer 0 only'),
    ({**DUAL, 'use_prefix_tune_for_g_prompt': False}, 'g_prompt_layer_idx'),
    ({**DUAL, 'use_prefix_tune_for_g_prompt': False, 'g_prompt_layer_idx': (1,),
      'use_prefix_tune_for_e_prompt': False, 'e_prompt_layer_idx': (0,)},
     'g_prompt_layer_idx'),
    ({'pgp.variant': 'paper', 'pgp.prompt_term': 'sum'}, 'auto, stack and no'),
    ({'pgp.variant': 'paper', 'pgp.energy_power': 2}, 'pgp.energy_power')])
def test_what_cannot_be_protected_is_told(changes, message):
  config = fakes.config(**{'pgp.enabled': True, **changes})
  _, method = fakes.tiny_model(config)
  with pytest.raises(ValueError, match=message) as raised:
    projection.check(config)
    projection.wrap(method, config)
  assert '\n' not in str(raised.value)


def test_released_needs_as_many_images_as_the_model_is_wide(tmp_path):
  data = fakes.write_data(tmp_path / 'few.npz', train_per_class=7)
  config = fakes.config(tmp_path, dataset=data, **L2P)
  with pytest.raises(ValueError, match='16 training images .* task 1 has 14'):
    train.prepare(config)


def test_spaces_and_when_they_are_collected():
  for changes, names, before in (
      (L2P, ['tokens', 'keys'], True),
      (DUAL, ['layer_0', 'layer_1', 'layer_2'], False),
      ({**L2P, 'pgp.variant': 'paper'}, ['tokens', 'keys'], False),
      ({**L2P, 'pgp.collect': 'after'}, ['tokens', 'keys'], False),
      (CLIP, ['sequence'], False)):
    config = fakes.config(**changes)
    model, _ = fakes.tiny_model(config)
    spaces = projection.protected(model.prompt)
    assert [space.name for space in spaces] == names
    assert projection.collects_before(config, spaces) == before
  tokens = spaces_of({**DUAL, 'use_prefix_tune_for_g_prompt': False,
                      'g_prompt_layer_idx': (0,)})
  assert set(tokens) == {'tokens', 'layer_1', 'layer_2', 'keys'}
  assert tokens['tokens'].leaves == (('prompt/prefix', (0,)),)
  both = spaces_of(DUAL)['layer_1']  # where G and E meet, under one basis
  assert both.leaves == (('prompt/prefix', (1, 0)),
                         ('prompt/prompt_pool/prompt', (0, 0)))


def spaces_of(changes):
  model, _ = fakes.tiny_model(fakes.config(**changes))
  return {s.name: s for s in projection.protected(model.prompt)}


@pytest.mark.parametrize('changes, columns', [
    ({}, [12, 15]), ({'pgp.prompt_term': 'stack'}, [16, 15]),
    ({'pgp.variant': 'paper'}, [16, 16]),
    ({'pgp.token_epsilon': 1.1}, [16, 15]),
    ({'continual.init_cls': 2, 'continual.inc_cls': 2}, [16, 16])])
def test_room_for_all_columns_there_may_be(changes, columns):
  config = fakes.config(**{**L2P, **changes})
  assert [projection.capacity(config, space, WIDTH)
          for space in spaces_of(L2P).values()] == columns


@pytest.fixture(name='learned', scope='module')
def _learned(inputs):
  """-> `find(name)`, see `trained`."""
  @functools.cache
  def find(name):
    changes = DUAL if name == 'prefixes' else {**L2P, 'pgp.variant': name}
    setting = Setting(inputs, 1, **changes)
    return setting, setting.train(), tuple(setting.log)

  return find


@pytest.fixture(params=['released', 'paper', 'prefixes'])
def trained(request, learned):
  """(setting, [(state at a task's start, state at its end)], what was told)."""
  return learned(request.param)


def test_a_task_trains_with_the_bases_of_the_tasks_before(trained):
  """`parallel.pmap` refuses a second trace, so all tasks compile once."""
  setting, tasks, _ = trained
  previous = setting.state.memory['pgp']
  for number, (begun, ended) in enumerate(tasks):
    for name, basis in begun.memory['pgp'].items():
      np.testing.assert_array_equal(basis['active'], previous[name]['known'])
      assert np.any(basis['active']) == (number > 0) or (
          previous[name]['rank'] == 0)
    for name, basis in ended.memory['pgp'].items():
      rank, known = int(basis['rank']), basis['known']
      assert rank >= previous[name]['rank'] and basis['started']
      np.testing.assert_allclose(known[:, :rank].T @ known[:, :rank],
                                 np.eye(rank), atol=1e-5)
      assert not known[:, rank:].any()
      old = int(previous[name]['rank'])
      np.testing.assert_array_equal(
          known[:, :old], previous[name]['known'][:, :old])
    previous = ended.memory['pgp']
  assert all(basis['rank'] > 0 for basis in previous.values())


def test_what_the_run_tells(trained):
  _, tasks, log = trained
  assert [step for step, _ in log] == [2, 4, 6]
  for (_, values), (begun, _) in zip(log, tasks, strict=True):
    for name, basis in begun.memory['pgp'].items():
      rank = int(np.sum(np.any(basis['active'] != 0, axis=0)))
      assert values[f'pgp_rank_{name}'] == rank
      assert 0 <= values[f'pgp_removed_{name}'] <= 1
      assert (values[f'pgp_removed_{name}'] > 0) == (rank > 0)
      assert 0 < values[f'pgp_angle_{name}'] <= 90
      # Adam's steps do not stay where the gradients were.
      assert (values[f'pgp_angle_{name}'] < 89.9) == (rank > 0)


def test_what_a_basis_may_be_made_of(learned):
  """Each choice gives another basis of the tokens, after two tasks."""
  setting = learned('released')[0]

  def known(**changes):
    config = fakes.changed(setting.program.config, **{
        'pgp.token_epsilon': 0.9999, **changes})
    state = setting.state
    for task in setting.stream.tasks[:2]:
      state = projection.grown(config, setting.spaces, state,
                               setting.probe.at(task))
    basis = state.memory['pgp']['tokens']
    return int(basis['rank']), basis['known'] @ basis['known'].T

  rank, plain = known()
  assert known(**{'pgp.energy_power': 2})[0] > rank
  assert known(**{'pgp.first_task_rule': 'inclusive'})[0] > rank
  assert known(**{'pgp.prompt_term': 'stack'})[0] > rank
  assert known(**{'pgp.prompt_term': 'none'})[0] < rank
  (count, drawn), again = (known(**{'pgp.random_directions': True})
                           for _ in range(2))
  np.testing.assert_array_equal(drawn, again[1])
  # Of a random subspace as large, rank / D lies in this one on average.
  assert count == rank and 0 < np.sum(drawn * plain) < 0.7 * rank


def test_protected_inputs_no_longer_notice_what_a_prompt_learns(inputs):
  """Both conditions of the paper, where the subspace holds all there is."""
  setting = Setting(inputs, 1, **{
      **L2P, 'pgp.variant': 'paper', 'pgp.token_epsilon': 0.9999})
  begun, ended = setting.train(num_steps=0)[0]
  del begun
  basis = ended.memory['pgp']['tokens']['known'].astype(np.float64)
  inputs = setting.probe.at(setting.stream.tasks[0]).inputs(
      setting.state, setting.spaces, **{**QUERY, 'count': 40})['tokens']
  prompts = setting.state.params['prompt/prompt_pool/prompt']
  for rows in (inputs.reshape(-1, WIDTH), prompts.reshape(-1, WIDTH)):
    left = rows - rows @ basis @ basis.T
    assert np.sum(left**2) < 3e-4 * np.sum(rows**2)


def test_one_device_and_eight_find_the_same_bases(inputs, learned):
  found = [setting.train(0)[-1][1].memory['pgp'] for setting in (
      learned('released')[0], Setting(inputs, 8, **L2P))]
  for name, basis in found[0].items():
    assert basis['rank'] == found[1][name]['rank']
    np.testing.assert_allclose(
        *(f[name]['known'] @ f[name]['known'].T for f in found), atol=1e-4)


def test_the_first_task_is_that_of_the_plain_method(inputs, learned):
  """Bit for bit, though inputs were collected before it; later ones differ."""
  plain = Setting(inputs, 1, **{**L2P, 'pgp.enabled': False})
  with_it, plain = ([ended.params for _, ended in tasks] for tasks in (
      learned('released')[1], plain.train()))
  jax.tree.map(np.testing.assert_array_equal, with_it[0], plain[0])
  path = 'prompt/prompt_pool/prompt'
  assert np.any(with_it[2][path] != plain[2][path])


def test_a_basis_is_float32_whatever_the_network_computes_in(inputs):
  setting = Setting(inputs, 1, dtype='bfloat16', **L2P)
  _, ended = setting.train(1)[1]
  assert {leaf.dtype.name for leaf in jax.tree.leaves(
      setting.probe.at(setting.stream.tasks[0]).inputs(
          setting.state, setting.spaces, **QUERY))} == {'float32'}
  for basis in ended.memory['pgp'].values():
    rank = int(basis['rank'])
    assert basis['known'].dtype == np.float32 and rank
    np.testing.assert_allclose(basis['known'][:, :rank].T
                               @ basis['known'][:, :rank], np.eye(rank),
                               atol=1e-6)
