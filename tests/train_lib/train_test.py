# SPDX-License-Identifier: Apache-2.0
"""Whole small runs on eight devices: traced once, reported, started again."""

import csv
import functools
import json
import shutil

import jax
import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.util import tensor_util

from promptcl.train_lib import train
from promptcl.train_lib.core import parallel
from tests.helpers import fakes

STEPS_PER_TASK = 10  # 40 images, 2 epochs, global batch 8
EVAL_BATCHES = 2  # 14 test images a task, so the second one is padded


class PmapSpy:
  """Counts traces and calls of what is pmapped, by function name."""

  def __init__(self, monkeypatch):
    self.traces, self.calls = {}, {}
    self._pmap = parallel.pmap
    monkeypatch.setattr(parallel, 'pmap', self)

  def __call__(self, fn, **options):
    name = fn.__name__

    @functools.wraps(fn)
    def traced(*args):
      self.traces[name] = self.traces.get(name, 0) + 1
      return fn(*args)

    compiled = self._pmap(traced, **options)

    def called(*args):
      self.calls[name] = self.calls.get(name, 0) + 1
      return compiled(*args)

    return called


def _run(config, workdir):
  workdir.mkdir(exist_ok=True)
  program, stream = train.prepare(config)
  return train.train_and_evaluate(program, stream, str(workdir))


@pytest.fixture(scope='module')
def config(tmp_path_factory):
  return fakes.config(tmp_path_factory.mktemp('inputs'), eval_per_epochs=1,
                      learning_rate_schedule='cosine')


@pytest.fixture(scope='module')
def unbroken(config, tmp_path_factory):
  """(workdir, results, spy) of one L2P run with a batch vote."""
  workdir = tmp_path_factory.mktemp('unbroken')
  with pytest.MonkeyPatch.context() as monkeypatch:
    spy = PmapSpy(monkeypatch)
    return workdir, _run(config, workdir), spy


def test_every_step_is_traced_once_over_three_tasks(unbroken):
  _, results, spy = unbroken
  assert results.num_tasks == 3
  assert len(spy.traces) == 3  # train, eval, query
  assert set(spy.traces.values()) == {1}
  assert spy.calls['train_step'] == 3 * STEPS_PER_TASK
  # Twice a task (each of the two epochs), on 1 + 2 + 3 sets in all.
  assert spy.calls['eval_step'] == 2 * (1 + 2 + 3) * EVAL_BATCHES


def test_query_features_are_computed_once_a_run(unbroken):
  _, _, spy = unbroken
  calls = {name: count for name, count in spy.calls.items()
           if name not in ('train_step', 'eval_step')}
  assert list(calls.values()) == [fakes.NUM_TASKS * EVAL_BATCHES]


def test_every_image_counts_once_and_both_selections_are_reported(unbroken):
  _, results, _ = unbroken
  assert results.headline == 'batch'
  np.testing.assert_array_equal(results.totals, [14, 14, 14])
  assert set(results.correct) == {
      'batch', 'per_sample', 'batch_task_inc', 'per_sample_task_inc', 'top5'}
  lower = np.tril_indices(3)
  for counts in results.correct.values():
    assert np.all(counts[lower] >= 0)
    assert np.all(counts[np.triu_indices(3, 1)] == -1)
  # 14 images use top_k = 2 prompts each; padding uses none.
  np.testing.assert_array_equal(results.prompt_counts.sum(-1)[lower], 28)


def test_the_run_learns(unbroken):
  _, results, _ = unbroken
  learned = np.diag(results.accuracies('batch_task_inc'))
  assert learned.mean() > 0.85  # two classes, so chance is 0.5


def test_files_that_a_run_leaves(unbroken):
  workdir, results, _ = unbroken
  report = json.loads((workdir / 'results.json').read_text())
  assert report['finished'] and report['seed'] == 3
  assert report['headline']['selection'] == 'batch'
  assert report['class_order'] == list(range(6))
  assert len(report['weights_sha256']) == 64
  assert report['num_devices'] == jax.device_count() == 8
  last = report['selections']['batch']['correct'][2]
  assert last == results.correct['batch'][2].tolist()
  with open(workdir / 'results.csv', newline='') as file:
    assert len(list(csv.DictReader(file))) == 5 * (1 + 2 + 3)
  assert list(workdir.glob('events.out.tfevents.*'))
  assert (workdir / 'checkpoints').is_dir()


def test_events_carry_the_tags_of_the_original(unbroken):
  workdir, results, _ = unbroken
  events = event_accumulator.EventAccumulator(
      str(workdir), size_guidance={'tensors': 0})
  events.Reload()
  tags = events.Tags()['tensors']
  for tag in ('accuracy_0', 'accuracy_2', 'avg_acc', 'forgetting', 'backward',
              'learning_acc', 'train_accuracy', 'loss', 'loss_std', 'l2_grads',
              'learning_rate', 'task_id', 'eval_loss', 'histogram_2',
              'loss/pull'):
    assert tag in tags, tag
  written = events.Tensors('avg_acc')
  steps = [point.step for point in written]
  assert steps == sorted(set(steps)) and steps[-1] == 3 * STEPS_PER_TASK
  assert tensor_util.make_ndarray(written[-1].tensor_proto) == pytest.approx(
      results.summary()['avg_acc'])


def test_a_finished_run_starts_again_without_training(
    unbroken, config, monkeypatch):
  workdir, expected, _ = unbroken
  spy = PmapSpy(monkeypatch)
  again = _run(config, workdir)
  assert spy.calls == {}
  assert again.summary() == expected.summary()
  np.testing.assert_array_equal(again.loss, expected.loss)


def test_results_lost_after_the_last_checkpoint_are_written_again(
    unbroken, config, tmp_path):
  """As when a run is killed between the two."""
  workdir, expected, _ = unbroken
  shutil.copytree(workdir, tmp_path / 'run')
  (tmp_path / 'run/results.json').unlink()
  _run(config, tmp_path / 'run')
  report = json.loads((tmp_path / 'run/results.json').read_text())
  assert report['finished']
  assert report['headline']['metrics'] == pytest.approx(expected.summary())


def test_a_workdir_of_another_config_is_refused(unbroken, config):
  workdir, _, _ = unbroken
  with pytest.raises(ValueError, match='learning_rate'):
    _run(fakes.changed(config, learning_rate=0.5), workdir)


def test_a_loss_that_is_not_finite_stops_the_run(config, tmp_path):
  wild = fakes.changed(config, learning_rate=1e38, grad_clip_max_norm=0.0)
  with pytest.raises(FloatingPointError) as raised:
    _run(wild, tmp_path)
  for word in ('step 3', 'task 1', 'none', 'learning_rate'):
    assert word in str(raised.value)
  assert not (tmp_path / 'results.json').exists()
