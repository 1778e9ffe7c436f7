# SPDX-License-Identifier: Apache-2.0
"""Zero-shot measurements against plain arithmetic."""

import types

import jax
import numpy as np
import pytest

from promptcl.train_lib import run as run_lib
from promptcl.train_lib import train
from promptcl.train_lib import zero_shot
from promptcl.train_lib.core import parallel
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.records import zero_shot_scores
from tests.helpers import it_prompts


def test_shares_by_hand():
  counts = dict(before=6, strict=6, routed=4, total=8, seen=10, open_seen=5,
                open_unseen=2, difference=0.0)
  assert zero_shot_scores.shares(counts, ':x') == pytest.approx({
      'ZS_before:x': .75, 'ZS_strict:x': .75, 'ZS_routed:x': .5, 'dZS:x': -.25,
      'Open_seen:x': .5, 'Open_unseen:x': .25, 'Open-H:x': 1 / 3})
  none = dict(counts, seen=0)
  assert set(zero_shot_scores.shares(none)) == {
      'ZS_before', 'ZS_strict', 'ZS_routed', 'dZS'}
  assert zero_shot_scores.shares(dict(counts, total=0)) == {}


def test_averages_by_hand():
  extras = {}
  for t, (before, routed) in enumerate([(.5, .4), (.7, .8)]):
    extras |= {f'ZS_before@{t}': before, f'ZS_routed@{t}': routed,
               f'dZS@{t}': routed - before, f'Open-H@{t}': routed / 2}
  extras['ZS_logit_difference@2'] = 0.25
  found = zero_shot_scores.summary(extras, 3)
  assert found == pytest.approx({
      'ZS_before': .6, 'ZS_routed': .6, 'dZS': 0, 'Open-H': .3, 'Transfer': .6,
      'Transfer_before': .6, 'ZS_logit_difference': .25})
  # With data sets, the headline is theirs after the last task.
  extras |= {'ZS_routed:a@1': 0., 'ZS_routed:a@2': .2, 'ZS_routed:b@2': .6,
             'ZS_before:a@2': .5, 'ZS_before:b@2': .7}
  found = zero_shot_scores.summary(extras, 3)
  assert [found[name] for name in (
      'ZS_routed', 'Transfer', 'ZS_before')] == pytest.approx([.4, .6, .6])
  assert zero_shot_scores.summary({}, 3) == {}


@pytest.fixture(name='inputs', scope='module')
def _inputs(tmp_path_factory):
  folder = tmp_path_factory.mktemp('inputs')
  found = it_prompts.write_inputs(folder)
  arrays = dict(np.load(folder / 'data.npz'))
  keep = lambda split: arrays[f'{split}_labels'] < 4
  np.savez(folder / 'other.npz', class_names=arrays['class_names'][:4], **{
      f'{split}_{kind}': arrays[f'{split}_{kind}'][keep(split)]
      for split in ('train', 'test') for kind in ('images', 'labels')})
  return {**found, 'zero_shot.datasets': (f'npz:{folder / "other.npz"}',)}


@pytest.fixture(name='measured', scope='module')
def _measured(inputs):
  """(program, stream, frozen, state, frozen on devices, what measures)."""
  program, stream = train.prepare(it_prompts.config(inputs))
  frozen, state = program.start()
  replicated = parallel.replicate(frozen)
  return (program, stream, frozen, state, replicated,
          zero_shot.ZeroShot(program, stream, replicated))


def _unit(x):
  return np.asarray(x) / np.linalg.norm(x, axis=-1, keepdims=True)


def _plainly(program, stream, frozen, state):
  """Labels, embeddings of both passes and logits of the head, by image."""
  @jax.jit
  def run(frozen, state, image):
    query = program.model.apply(
        state_lib.variables(frozen), image, method='query')
    out = program.model.apply(
        state_lib.variables(state_lib.overlay(frozen, state.params)), image,
        query, np.int32(-1), train=False, memory=state.memory)
    return query.embedding, out.pre_logits, out.logits

  found = [[], [], [], []]
  for eval_set in stream.eval_sets:
    for batch in stream.eval_batches(eval_set):
      parts = (batch['label'], *run(frozen, state, batch['image']))
      for several, x in zip(found, parts, strict=True):
        several.append(np.asarray(x)[batch['mask'] > 0])
  return tuple(map(np.concatenate, found))


def test_shares_are_those_of_plain_arithmetic(measured):
  program, stream, frozen, state, _, ask = measured
  rng = np.random.default_rng(2)  # prompts and heads that do something
  params = {path: rng.normal(0, 0.5, leaf.shape).astype(np.float32)
            for path, leaf in sorted(state.params.items())}
  memory = {'it_prompt': {**state.memory['it_prompt'],
                          'owner': np.int32([0, 0, 1, 1, -1, -1])}}
  state = state.replace(params=params, memory=memory)
  found = ask(parallel.replicate(state), stream.tasks[1])

  labels, z, u, logits = _plainly(program, stream, frozen, state)
  text = _unit(frozen['prompt/text'])
  seen = np.arange(6) < 4
  best = lambda x, among: np.where(among, x, -np.inf).argmax(axis=1) == labels
  later = labels >= 4
  for name, x in ('ZS_before', z), ('ZS_strict', z), ('ZS_routed', u):
    assert found[name] == pytest.approx(
        best(_unit(x) @ text.T, ~seen)[later].mean()), name
  assert found['dZS'] == found['ZS_routed'] - found['ZS_before']
  both = np.where(seen, logits, np.exp(3.0) * _unit(z) @ text.T)
  right = both.argmax(axis=1) == labels
  assert found['Open_seen'] == pytest.approx(right[~later].mean())
  assert found['Open_unseen'] == pytest.approx(right[later].mean())
  # The other data set has the first four classes, which all count there.
  names = np.arange(6) < 4
  for name, x in ('ZS_before', z), ('ZS_routed', u):
    assert found[f'{name}:other.npz'] == pytest.approx(
        best(_unit(x) @ text.T, names)[~later].mean()), name
  assert 0 < found['ZS_routed'] < found['ZS_before']
  assert found['ZS_logit_difference'] == 0
  assert 'Open-H:other.npz' not in found


def test_changed_weights_are_noticed(measured, monkeypatch):
  _, stream, frozen, state, replicated, ask = measured
  path = 'backbone/joint_embedding/kernel'
  monkeypatch.setitem(replicated, path, replicated[path] + 0.5)
  found = ask(parallel.replicate(state), stream.tasks[0])
  assert found['ZS_logit_difference'] > 0.1
  run = types.SimpleNamespace(frozen=replicated, stream=stream)
  last, checksum = stream.tasks[-1], state_lib.checksum(frozen)
  with pytest.raises(AssertionError, match='frozen parameters changed'):
    run_lib.check_frozen(run, last, checksum)
  run_lib.check_frozen(run, stream.tasks[0], checksum)  # not yet
  run_lib.check_frozen(run, last, state_lib.checksum(
      parallel.unreplicate(replicated)))


@pytest.mark.parametrize('changes, message', [
    ({'zero_shot.measure': False}, 'datasets needs zero_shot.measure'),
    ({'zero_shot.datasets': ('npz:none.npz',)}, 'none.npz'),
    ({'zero_shot.datasets': ('cifar11',)}, "unknown data set 'cifar11'")])
def test_what_cannot_be_measured_is_one_line(inputs, changes, message):
  with pytest.raises((ValueError, OSError), match=message) as raised:
    train.prepare(it_prompts.config({**inputs, **changes}))
  assert '\n' not in str(raised.value)
