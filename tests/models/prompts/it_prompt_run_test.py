# SPDX-License-Identifier: Apache-2.0
"""Small runs of IT-Prompt: killed in any phase, on one device and eight."""

import csv
import dataclasses
import json

import jax
import numpy as np
import pytest

from promptcl.models.prompts.it_prompt import losses as it_losses
from promptcl.train_lib import evaluate
from promptcl.train_lib import program as program_lib
from promptcl.train_lib import train
from promptcl.train_lib import zero_shot
from promptcl.train_lib.core import parallel
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.records import run_log
from promptcl.train_lib.resume.checkpoint import TRAINED
from promptcl.train_lib.resume.checkpoint import TRAINING
from promptcl.train_lib.steps import train_step as steps_lib
from tests.helpers import fakes
from tests.helpers import it_prompts
from tests.helpers import killing
from tests.helpers import programs
from tests.helpers.killing import Point
from tests.torture import comparison

pytestmark = pytest.mark.slow

# 40 images a task: 2 x 3 steps, 2 x 5 on images, 2 x (4 and 6) of alignment.
STEPS = (6 + 10, 6 + 10 + 8, 6 + 10 + 12)


@pytest.fixture(name='config', scope='module')
def _config(tmp_path_factory):
  return it_prompts.config(
      it_prompts.write_inputs(tmp_path_factory.mktemp('inputs')),
      checkpoint_every_steps=3)


@pytest.fixture(name='unbroken', scope='module')
def _unbroken(config, tmp_path_factory):
  """(workdir, state after each task, last frozen leaves, results, start)."""
  workdir, states, frozen = tmp_path_factory.mktemp('unbroken'), [], []
  run = programs.Starts(config)
  end_task, start = train.end_task, train.run_lib.start
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(train, 'end_task', lambda program, state, *others: (
        states.append(parallel.unreplicate(state)),
        end_task(program, state, *others))[1])
    patch.setattr(train.run_lib, 'start', lambda program, stream, leaves, *o: (
        run := start(program, stream, leaves, *o), frozen.append(run.frozen)
    )[0])
    results = run(workdir)
  return workdir, states, parallel.unreplicate(frozen[0]), results, run


def test_it_makes_all_steps_and_beats_chance(config, unbroken):
  program, stream = train.prepare(config)
  assert tuple(program_lib.num_steps(program, stream)) == STEPS
  _, states, _, results, _ = unbroken
  assert int(states[-1].step) == sum(STEPS)
  assert results.finished and results.summary()['last_acc'] > 0.6  # 6 classes


def test_what_earlier_tasks_learned_stays_bit_for_bit(unbroken):
  states = unbroken[1]
  for before, after in zip(states, states[1:], strict=False):
    mine = before.memory[it_losses.MEMORY]['owner']
    task = mine.max()
    np.testing.assert_array_equal(
        before.params['prompt/prompts'][:task + 1],
        after.params['prompt/prompts'][:task + 1])
    assert np.any(after.params['prompt/prompts'][task + 1]
                  != before.params['prompt/prompts'][task])
    for part in 'queries', 'features':
      for name, x in before.memory[it_losses.MEMORY][part].items():
        np.testing.assert_array_equal(
            x[mine >= 0], after.memory[it_losses.MEMORY][part][name][mine >= 0])
    # Their keys and classifiers do go on.
    for path, rows in (('prompt/keys', 0), ('head/kernel', 1)):
      moved = np.any(before.params[path] != after.params[path], axis=1 - rows)
      assert np.all(moved[mine >= 0]), path


def test_nothing_of_clip_changes(config, unbroken):
  fresh, _ = train.prepare(config)[0].start()
  jax.tree.map(np.testing.assert_array_equal, fresh, unbroken[2])
  assert {'backbone/cls', 'prompt/text', 'head/scale'} <= set(fresh)
  assert not set(fresh) & set(unbroken[1][-1].params)


def test_classes_still_to_come_are_never_predicted(config, unbroken):
  """Even by a state in which they would win."""
  program, stream = train.prepare(config)
  state = unbroken[1][0]
  kernel = np.array(state.params['head/kernel'])
  kernel[:, 2:4] = kernel[:, :2]
  kernel[:, :2] *= -1
  state = parallel.replicate(state.replace(
      params={**state.params, 'head/kernel': kernel}))
  right = {}
  for classes in 'all', 'seen':
    changed = dataclasses.replace(program, config=fakes.changed(
        program.config, eval_classes=classes))
    scores = evaluate.Evaluator(changed, stream)(
        state, parallel.replicate(unbroken[2]),
        dataclasses.replace(stream.tasks[0], eval_sets=(1,)), compare=False)[1]
    right[classes] = scores.correct['per_sample']
    assert not scores.prompt_counts[1:].any()
  assert right['seen'] == 0 < right['all']


# Tasks of 16, 24 and 28 steps, saved after every third of the run: the points
# are in each phase, where one meets the next, and in what is measured.
POINTS = (
    Point(run_log.RunLog, 'train_step', 5, 4, (0, 3, TRAINING)),
    Point(run_log.RunLog, 'train_step', 12, 11, (0, 12, TRAINING)),
    Point(zero_shot.ZeroShot, '_counts', 1, 4, (0, 16, TRAINED), stopped=True),
    Point(run_log.RunLog, 'train_step', 8, 7, (1, 5, TRAINING)),
    Point(run_log.RunLog, 'train_step', 11, 10, (1, 14, TRAINING)),
    Point(run_log.RunLog, 'train_step', 7, 6, (1, 20, TRAINING)))


def test_a_run_ended_in_any_phase_goes_on_exactly(unbroken, tmp_path):
  expected, *_, run = unbroken
  for point in POINTS:
    killing.end_at(point, lambda: run(tmp_path), tmp_path)
  run(tmp_path)
  assert comparison.difference(expected, tmp_path) == ''


def _step(config, unbroken, kind, devices):
  """Trainable leaves after a step of a kind in the second task."""
  program, stream = train.prepare(config)
  learning = program.method.learning[kind]
  changed = program_lib.config_of(program.config, learning)
  optimizer = program_lib.optimizer_of(changed, program.method)
  size = learning.batch_size or 16
  step = parallel.pmap(steps_lib.make_train_step(
      changed, program.model, program.method, optimizer, learning=learning,
      global_batch_size=size), in_axes=(0, 0, 0, None), devices=devices)
  state = state_lib.with_new_optimizer(unbroken[1][1], optimizer)
  rng, (low, high) = np.random.default_rng(0), (2, 4) if (
      kind == 'prompt') else (0, 4)
  batch = {'label': rng.integers(low, high, size).astype(np.int32)}
  if kind == 'prompt':
    batch['image'] = rng.random((size, 8, 8, 3), np.float32)
  if kind == 'selector':
    batch |= {'vector': rng.normal(size=(size, 16)).astype(np.float32),
              'drawn': np.arange(size) >= size // 2,
              'weight': np.ones(size, np.float32)}
  task = stream.tasks[1]
  info = steps_lib.TaskInfo.create(1, task.class_mask, first_step=0,
                                   steps_per_epoch=5)
  info = info.replace(first_step=np.int32(state.step))
  after, _ = step(
      parallel.replicate(state, devices),
      parallel.replicate(unbroken[2], devices),
      parallel.shard(batch, devices), info)
  return state.params, parallel.unreplicate(after).params


@pytest.mark.parametrize('kind, moving', [
    ('selector', {'prompt/fc_kernel', 'prompt/fc_bias', 'prompt/keys'}),
    ('prompt', {'prompt/prompts', 'head/kernel'}),
    ('alignment', {'head/kernel'})])
def test_a_step_moves_its_part_and_is_the_same_on_one_and_eight_devices(
    config, unbroken, kind, moving):
  before, one = _step(config, unbroken, kind, jax.devices()[:1])
  _, eight = _step(config, unbroken, kind, jax.devices())
  for path, leaf in one.items():
    np.testing.assert_allclose(leaf, eight[path], rtol=1e-4, atol=2e-5)
    assert np.any(leaf != before[path]) == (path in moving), path
  if kind == 'prompt':  # of the task itself
    moved = lambda path, axis: np.any(
        np.moveaxis(one[path] != before[path], axis, 0).reshape(
            one[path].shape[axis], -1), axis=1).tolist()
    assert moved('prompt/prompts', 0) == [False, True, False]
    assert moved('head/kernel', 1) == [False] * 2 + [True] * 2 + [False] * 2
  else:
    path, rows = ('prompt/keys', slice(4, 6)) if kind == 'selector' else (
        'head/kernel', (slice(None), slice(4, 6)))
    np.testing.assert_array_equal(one[path][rows], before[path][rows])


def test_what_is_measured_beside_accuracy(config, unbroken):
  workdir, _, frozen, results, _ = unbroken
  found = results.extras
  # The task of an image is chosen by its key, 14 images a set.
  counts = results.prompt_counts
  assert counts.sum() == 14 * (1 + 2 + 3)
  for t in range(3):
    own = [counts[t, i, i] / 14 for i in range(t + 1)]
    assert found[f'Acc@task@{t}'] == pytest.approx(np.mean(own))
  assert found['Acc@task'] == found['Acc@task@2']
  assert {f'{name}@{t}' for t in range(2) for name in (
      'ZS_before', 'ZS_strict', 'ZS_routed', 'dZS', 'Open_seen', 'Open_unseen',
      'Open-H')} <= set(found)
  assert 'ZS_routed@2' not in found  # nothing is left to come
  assert found['Transfer'] == found['ZS_routed'] == pytest.approx(
      np.mean([found['ZS_routed@0'], found['ZS_routed@1']]))
  for t in range(2):
    assert found[f'ZS_strict@{t}'] == found[f'ZS_before@{t}']
  assert found['ZS_logit_difference'] == 0
  report = json.loads((workdir / 'results.json').read_text())
  assert report['extras'] == pytest.approx(found)
  assert report['frozen_sha256'] == state_lib.checksum(frozen)
  with open(workdir / 'extras.csv', encoding='utf-8', newline='') as file:
    rows = {(row['name'], row['task']): float(row['share'])
            for row in csv.DictReader(file)}
  assert rows['Open-H', '1'] == found['Open-H@1']
  assert rows['Transfer', ''] == found['Transfer']
  told = {(step, tag) for step, tag, _ in comparison.events(workdir)}
  assert (sum(STEPS[:1]), 'ZS_routed') in told
  assert (sum(STEPS), 'Acc@task') in told
