# SPDX-License-Identifier: Apache-2.0
"""The controls beside a run."""

import copy
import dataclasses
import json

import jax
import numpy as np
import pytest

from promptcl.train_lib import comparisons
from promptcl.train_lib import program as program_lib
from promptcl.train_lib import train
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.resume import workdir as workdir_lib
from promptcl.train_lib.startup import controls
from promptcl.train_lib.startup import startup
from tests.helpers import fakes

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  return train.prepare(fakes.config(tmp_path_factory.mktemp('comparisons')))


def _bare_features(program):
  """-> `features(batches)`: class tokens of the plain ViT and labels.

  Of unit length, padding left out.
  """
  frozen, _ = program.start()
  run = jax.jit(lambda images: program.model.apply(
      state_lib.variables(frozen), images, method='class_token'))

  def features(batches):
    xs, ys = [], []
    for batch in batches:
      real = batch['mask'] > 0
      xs.append(np.asarray(run(batch['image']))[real])
      ys.append(batch['label'][real])
    x = np.concatenate(xs)
    return x / np.linalg.norm(x, axis=1, keepdims=True), np.concatenate(ys)

  return features


def test_class_means_by_hand(prepared):
  program, stream = prepared
  results = comparisons.class_mean(program, stream)
  assert results.headline == 'per_sample'
  np.testing.assert_array_equal(results.totals, [14, 14, 14])
  means, features = [], _bare_features(program)
  for task in stream.tasks:
    x, y = features(stream.clean_batches(task))
    assert len(x) == 40
    means += [x[y == c].mean(0) for c in np.flatnonzero(task.class_mask)]
  means = np.stack([m / np.linalg.norm(m) for m in means])
  for t in range(3):
    for i in range(t + 1):
      x, y = features(stream.eval_batches(stream.eval_sets[i]))
      seen = x @ means[:2 * t + 2].T
      right = np.sum(np.argmax(seen, axis=1) == y)
      assert results.correct['per_sample'][t, i] == right


def _expanded(program, name):
  return startup.expand(
      controls.override(program.config, name, fakes.NUM_CLASSES))


def test_class_means_count_an_image_once_and_evaluate_where_asked(prepared):
  """As in a blurred stream: all images again, and no evaluation before."""
  program, stream = prepared
  task = stream.tasks[1]
  new = comparisons._without(task, task.train_indices[:3])
  assert new.num_examples == task.num_examples - 3
  np.testing.assert_array_equal(new.train_indices, task.train_indices[3:])
  everything = np.concatenate([t.train_indices for t in stream.tasks])
  first, *_, last = stream.tasks
  again = dataclasses.replace(
      last, train_indices=everything, num_examples=everything.size)
  blurred = copy.copy(stream)
  blurred.tasks = (dataclasses.replace(first, eval_sets=()),
                   *stream.tasks[1:-1], again)
  found = comparisons.class_mean(program, blurred)
  expected = comparisons.class_mean(program, stream)
  for row, same in ((0, False), (1, True), (2, True)):
    assert np.array_equal(found.correct['per_sample'][row],
                          expected.correct['per_sample'][row]) == same


@pytest.mark.parametrize('name', ['frozen', 'frozen_unmasked'])
def test_a_frozen_backbone_trains_its_head_alone(prepared, name):
  config = _expanded(prepared[0], name)
  model, _ = fakes.tiny_model(config)
  params = fakes.random_params(model)
  assert state_lib.trainable_paths(params, config.freeze_part) == {
      'head/kernel', 'head/bias'}
  assert config.continual.train_mask == (name == 'frozen')


@pytest.mark.parametrize('name', [
    'finetune', 'finetune_masked', 'ewc', 'ewc_masked', 'lwf', 'lwf_masked',
    'er', 'derpp', 'joint'])
def test_fine_tuning_trains_everything(prepared, name):
  config = _expanded(prepared[0], name)
  model, _ = fakes.tiny_model(config)
  params = fakes.random_params(model)
  assert state_lib.trainable_paths(params, config.freeze_part) == set(params)
  assert config.continual.train_mask == name.endswith('_masked')
  assert not any(path.startswith('prompt/') for path in params)
  assert config.regularizer == (
      name[:3] if name[:3] in ('ewc', 'lwf') else '')


def test_what_each_name_puts_against_forgetting(prepared):
  found = {name: _expanded(prepared[0], name) for name in controls.OVERRIDES}
  stores = {name: c.replay.capacity for name, c in found.items()
            if c.replay.capacity}
  assert stores == dict.fromkeys(('er', 'derpp', 'l2p_r'), 60)  # 10 a class
  assert found['er'].replay.dark_weight == 0 < found['derpp'].replay.dark_weight
  assert found['l2p_r'].method == 'l2p'
  assert {name: c.prompt_choice for name, c in found.items()
          if c.prompt_choice != 'key'} == {
              'random_prompt': 'random', 'oracle_prompt': 'oracle'}
  larger = fakes.changed(prepared[0].config, **{'replay.capacity': 7})
  assert controls.override(larger, 'er', 6).replay.capacity == 7
  assert controls.override(larger, 'finetune', 6).replay.capacity == 0
  # The state of the run is scored, so it must have the run's structure.
  assert controls.override(larger, 'random_prompt', 6).replay.capacity == 7


def test_every_control_has_a_title_and_passes_the_checks(prepared):
  assert set(controls.NAMES) == {'class_mean', *controls.OVERRIDES}
  for name in controls.OVERRIDES:
    startup.check(_expanded(prepared[0], name))


def test_a_control_never_starts_controls_and_keeps_the_rest(prepared):
  config = fakes.changed(prepared[0].config, comparisons=('frozen',), seed=9)
  for name in controls.OVERRIDES:
    control = controls.override(config, name, fakes.NUM_CLASSES)
    assert control.comparisons == ()
    assert control.seed == 9
    assert control.dataset == config.dataset
    assert control.continual.num_tasks == config.continual.num_tasks


@pytest.mark.parametrize('changes, word', [
    ({'comparisons': ('oracle_prompt',)}, 'use_prompt_mask'),
    ({'comparisons': ('random_prompt',), 'method': 'none',
      'vit_classifier': 'token'}, 'none has no pool'),
    ({'comparisons': ('oracle_prompt',), 'method': 'vpt'}, 'vpt has no pool'),
    ({**fakes.VQ_PROMPT, 'comparisons': ('random_prompt',)},
     'vq_prompt has no pool')])
def test_controls_that_a_method_cannot_have_are_refused(changes, word):
  with pytest.raises(ValueError, match=word):
    program_lib.create(fakes.config(**changes), fakes.NUM_CLASSES)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """(workdir, program, stream, results) of a DualPrompt run."""
  folder = tmp_path_factory.mktemp('trained')
  program, stream = train.prepare(
      fakes.config(folder, **{**fakes.DUALPROMPT, 'num_epochs': 1}))
  results = train.train_and_evaluate(program, stream, str(folder))
  return folder, program, stream, results


def test_a_state_scored_again_scores_the_same(trained):
  folder, program, stream, results = trained
  again = comparisons.rescore(program, stream, str(folder), str(folder))
  for name, counts in again.correct.items():
    np.testing.assert_array_equal(counts[-1], results.correct[name][-1], name)
    assert np.all(counts[:-1] == -1)
  np.testing.assert_array_equal(again.loss[-1], results.loss[-1])


def test_oracle_and_random_prompts_of_the_trained_state(trained):
  folder, program, stream, _ = trained
  oracle, chance = (
      comparisons.control(name, program, stream, str(folder))
      for name in ('oracle_prompt', 'random_prompt'))
  # Task i owns prompt i of the pool (top_k = 1), and 14 images ask for it.
  np.testing.assert_array_equal(oracle.prompt_counts[-1], 14 * np.eye(3))
  assert np.all(chance.prompt_counts[-1] > 0)
  for name in ('oracle_prompt', 'random_prompt'):
    report = json.loads(
        (folder / 'comparisons' / name / 'results.json').read_text())
    assert report['config']['prompt_choice'] == name.removesuffix('_prompt')


def test_without_a_trained_state_nothing_can_be_scored(trained, tmp_path):
  _, program, stream, _ = trained
  with pytest.raises(ValueError, match='no checkpoint'):
    comparisons.rescore(program, stream, str(tmp_path), str(tmp_path))


def test_joint_training_is_one_task_scored_on_each_set(trained):
  folder, program, stream, _ = trained
  merged = comparisons.joint(stream)
  (task,), (everything,) = merged.tasks, merged.eval_sets
  assert task.num_examples == 120 and np.all(task.class_mask)
  assert everything.num_examples == 3 * 14
  found = comparisons.control('joint', program, stream, str(folder))
  np.testing.assert_array_equal(found.totals, [14, 14, 14])
  with workdir_lib.open_checkpoints(
      str(folder / 'comparisons/joint')) as checkpoints:
    assert checkpoints.latest.task == 0
  report = json.loads(
      (folder / 'comparisons/joint/results.json').read_text())
  assert report['config']['freeze_part'] == []
  assert found.summary()['micro_last_acc'] == pytest.approx(
      found.correct['per_sample'][-1].sum() / 42)


def test_one_table_holds_them_all_and_a_second_start_trains_nothing(
    trained, monkeypatch):
  folder, program, stream, results = trained
  config = fakes.changed(program.config, comparisons=('class_mean', 'joint'))
  program = dataclasses.replace(program, config=config)
  table = comparisons.run(program, stream, str(folder), results)
  assert [line.split(':')[0].split()[0] for line in table.splitlines()[2:]] == [
      'dualprompt', 'class_mean', 'joint']
  assert 'micro_last_acc' in table.splitlines()[0]

  def fail(*args):
    raise AssertionError('a finished control trains again')

  monkeypatch.setattr(train, 'train_task', fail)
  assert comparisons.run(program, stream, str(folder), results) == table
