# SPDX-License-Identifier: Apache-2.0
"""A run that is stopped or killed anywhere equals one that never was.

Each run goes through a table of points: it ends at the first, goes on from
there to the second, and so on.  What it holds in the end, state, results and
events, is that of the run that was never ended, bit for bit.
"""

import shutil
import signal
import textwrap

import jax
import numpy as np
import pytest

from promptcl.train_lib import evaluate
from promptcl.train_lib import probe as probe_lib
from promptcl.train_lib import train
from promptcl.train_lib.records import run_log
from promptcl.train_lib.resume import checkpoint
from promptcl.train_lib.resume import workdir as workdir_lib
from promptcl.train_lib.resume.checkpoint import DONE
from promptcl.train_lib.resume.checkpoint import TRAINED
from promptcl.train_lib.resume.checkpoint import TRAINING
from tests.helpers import environment
from tests.helpers import fakes
from tests.helpers import killing
from tests.helpers import preloaded
from tests.helpers import programs
from tests.helpers import projections
from tests.helpers.killing import Point
from tests.torture import comparison

pytestmark = pytest.mark.slow

LOG, PROBE, SCORES = run_log.RunLog, probe_lib.Probe, evaluate.Evaluator
REBALANCE = {'rebalance.epochs': 1, 'rebalance.batch_ratio': 2,
             'rebalance.learning_rate': 0.02}
# Tasks of 5 steps on images, 2 of review, and 0, 2 and 4 of re-balancing.
RICH = {
    **projections.L2P, **REBALANCE, 'num_epochs': 1, 'eval_per_epochs': 0,
    'eval_every_steps': 2, 'checkpoint_every_steps': 3, 'regularizer': 'ewc',
    'ewc_strength': 1.0, 'replay.capacity': 14, 'replay.policy': 'reservoir',
    'replay.dark_weight': 0.3, 'replay.label_weight': 0.7,
    'replay.batch_size': 1, 'replay.review_epochs': 2}
FISHER = 'memory/ewc/fisher/head/kernel'
# The run makes 7, 9 and 11 steps and saves after 3, 6, 9 and so on of all.
RICH_POINTS = (
    Point(LOG, 'train_step', 3, 2, None),
    Point(checkpoint.Checkpointer, 'save', 1, 3, None),
    # In the evaluation after step 2, and before anything is due to be saved.
    Point(SCORES, '_score', 1, 2, (0, 2, TRAINING), stopped=True),
    Point(LOG, 'train_step', 2, 2, (0, 4, TRAINING), stopped=True),
    # In the review, and while things are collected after it.
    Point(LOG, 'train_step', 3, 2, (0, 6, TRAINING)),
    Point(PROBE, 'features', 1, 1, (0, 6, TRAINING)),
    Point(PROBE, 'squared_gradients', 1, 1, (0, 6, TRAINING)),
    Point(train, 'end_task', 1, 1, (0, 7, TRAINED), stopped=True),
    Point(SCORES, '_score', 1, 0, (0, 7, TRAINED), stopped=True),
    # Task 0 is saved, its results are not written; then between two tasks.
    Point(workdir_lib, 'save_results', 1, 0, (0, 7, DONE)),
    Point(PROBE, 'inputs', 1, 0, (0, 7, DONE)),
    Point(LOG, 'train_step', 3, 2, (1, 2, TRAINING)),
    # In re-balancing, and behind it.
    Point(LOG, 'train_step', 7, 6, (1, 8, TRAINING)),
    Point(PROBE, 'squared_gradients', 1, 1, (1, 8, TRAINING)),
    Point(SCORES, '_score', 2, 1, (1, 9, TRAINED), stopped=True),
    Point(train, 'begin_task', 1, 1, (2, 1, TRAINING), stopped=True),
    # Where training meets the review, and where that meets re-balancing.
    Point(LOG, 'train_step', 5, 4, (2, 5, TRAINING)),
    Point(PROBE, 'features', 1, 2, (2, 5, TRAINING)),
    Point(workdir_lib, 'save_results', 1, 6, (2, 11, DONE)))
# Tasks of 5 steps on images and 2 of review.
OTHER = {
    **projections.DUAL, 'num_epochs': 1, 'eval_last_only': True, 'optim': 'sgd',
    'learning_rate': 4.0, 'checkpoint_every_steps': 4, 'regularizer': 'lwf',
    'lwf_strength': 2.0, 'replay.capacity': 12, 'replay.review_epochs': 2,
    'prompt_pool_param.batchwise_prompt': False,
    'continual.eval_task_inc': True}
OTHER_POINTS = (
    # While inputs are collected after a task, and between tasks, with bases.
    Point(PROBE, 'inputs', 1, 7, (0, 4, TRAINING)),
    Point(workdir_lib, 'save_results', 1, 3, (0, 7, DONE)),
    Point(PROBE, 'inputs', 1, 7, (1, 5, TRAINING)),
    Point(train, 'begin_task', 1, 2, (1, 7, DONE)),
    Point(LOG, 'train_step', 7, 6, (2, 6, TRAINING)))


@pytest.fixture(name='rich', scope='module')
def _rich(tmp_path_factory):
  """(start, workdir of a run that was never ended)."""
  return _unbroken(tmp_path_factory.mktemp('rich'), RICH)


@pytest.fixture(name='other', scope='module')
def _other(tmp_path_factory):
  return _unbroken(tmp_path_factory.mktemp('other'), OTHER)


def _unbroken(folder, changes):
  start = programs.Starts(fakes.config(folder, **changes))
  start(folder / 'unbroken')
  return start, folder / 'unbroken'


def _recorded(start, workdir):
  """What the newest checkpoint holds beside the state."""
  with workdir_lib.open_checkpoints(str(workdir)) as checkpoints:
    return checkpoints.restore_latest(
        train.prepare(start.config)[0].start()[1])[2]


def test_a_run_of_many_parts_goes_on_wherever_it_ends(rich, tmp_path):
  start, expected = rich
  before, fishers = signal.getsignal(signal.SIGTERM), []
  with pytest.MonkeyPatch.context() as patch:
    begun = killing.record_calls(patch, train, 'begin_task')
    for point in RICH_POINTS:
      killing.end_at(point, lambda: start(tmp_path), tmp_path)
      if point.resume_point and point.resume_point[2] == DONE:
        fishers.append(comparison.last_state(tmp_path)[FISHER])
    start(tmp_path)
  assert signal.getsignal(signal.SIGTERM) is before
  assert [task.index for _, _, task, _ in begun] == [0] * 3 + [1] * 2 + [2]
  assert comparison.difference(expected, tmp_path) == ''
  want, have = (_recorded(start, x) for x in (expected, tmp_path))
  assert {'replay:rows', 'replay:seen'} <= set(want)
  for key in (key for key in want if key.startswith('replay:')):
    np.testing.assert_array_equal(have[key], want[key], key)
  # What is important to old tasks is known, and grows.
  first, same, last = fishers
  assert np.any(first) and np.all(first == same)
  assert np.all(first <= last) and np.any(first < last)


def test_one_compiled_step_fills_the_store_replays_and_reviews(rich):
  """`parallel.pmap` raises if it has to trace again."""
  start, workdir = rich
  state, arrays = comparison.last_state(workdir), _recorded(start, workdir)
  assert state['step'] == 7 + 9 + 11
  assert np.all(np.any(state['memory/replay_logits'] != 0, axis=1))
  assert arrays['replay:rows'].shape == (14,)
  assert arrays['replay:shapes'].tolist() == [[10, 10, 3]] * 14
  assert arrays['replay:seen'] == 3 * 40


def test_what_a_projection_does_is_in_the_events(rich, other):
  for (_, workdir), name in (rich, 'tokens'), (other, 'layer_1'):
    tags = {tag for _, tag, _ in comparison.events(workdir)}
    assert {f'pgp_{kind}_{name}'
            for kind in ('rank', 'removed', 'angle')} <= tags


def test_evaluation_of_the_last_task_only_with_a_task_incremental_headline(
    other):
  start, workdir = other
  results = start(workdir)
  assert results.headline == 'per_sample_task_inc'
  assert np.all(np.isnan(results.accuracies()[:2]))
  assert np.all(results.accuracies()[2] >= 0)
  np.testing.assert_array_equal(results.totals, [14, 14, 14])
  assert set(results.correct) == {'per_sample', 'per_sample_task_inc', 'top5'}
  assert np.all(results.correct['per_sample_task_inc'][2]
                >= results.correct['per_sample'][2])


def test_what_distils_and_projects_prefixes_goes_on_between_tasks(
    other, tmp_path):
  start, expected = other
  known = []
  for point in OTHER_POINTS:
    killing.end_at(point, lambda: start(tmp_path), tmp_path)
    known.append(comparison.last_state(tmp_path))
  start(tmp_path)
  assert comparison.difference(expected, tmp_path) == ''
  # The classes and the network after task 0, then those after task 1.
  known = {x['memory/lwf/old'].sum(): x['memory/lwf/params/head/kernel']
           for x in known}
  assert set(known) == {0, 2, 4} and np.any(known[2] != known[4])


def test_one_device_and_eight_continue_each_other(other, tmp_path):
  """Equal but for rounding, as nothing depends on a device's batch."""
  start, expected = other
  killing.end_at(Point(LOG, 'train_step', 3, 3, (0, 3, TRAINING), stopped=True),
                 lambda: start(tmp_path), tmp_path)
  one = {**OTHER, 'dataset': start.config.dataset, 'per_device_batch_size': 8,
         'init_checkpoint': start.config.init_checkpoint}
  script = textwrap.dedent(f"""
      import pathlib
      from tests.train_lib import survival_test
      survival_test.go_on_alone({one!r}, pathlib.Path({str(tmp_path)!r}))
      """)
  with preloaded.start('-c', script, env=environment.of_child()) as alone:
    assert alone.wait() == 0, alone.errors
  moved, unmoved = start(tmp_path), start(expected)
  np.testing.assert_allclose(moved.loss, unmoved.loss, rtol=1e-4)
  jax.tree.map(np.testing.assert_array_equal, moved.correct, unmoved.correct)
  states = comparison.last_state(tmp_path), comparison.last_state(expected)
  assert states[0].keys() == states[1].keys()
  for path, leaf in states[1].items():
    np.testing.assert_allclose(
        states[0][path], leaf, rtol=1e-4, atol=1e-6, err_msg=path)


def go_on_alone(changes, workdir):
  """From task 0 through its end and training of task 1, on one device."""
  assert jax.device_count() == 1
  start = programs.Starts(fakes.config(**changes))
  killing.end_at(
      Point(LOG, 'train_step', 10, 10, (1, 6, TRAINING), stopped=True),
      lambda: start(workdir), workdir)


def test_another_number_of_images_per_step_is_refused(rich, tmp_path):
  start, expected = rich
  shutil.copytree(expected, tmp_path / 'run')
  twice = programs.Starts(fakes.changed(start.config, per_device_batch_size=2))
  with pytest.raises(ValueError, match='24 images per step.* 32 on 8 device'):
    twice(tmp_path / 'run')


def test_events_of_others_are_left_alone(rich, tmp_path):
  other = tmp_path / 'events.out.tfevents.1.other'
  other.write_bytes(b'x')
  killing.end_at(Point(LOG, 'train_step', 1, 0, None),
                 lambda: rich[0](tmp_path), tmp_path)
  assert other.read_bytes() == b'x'
