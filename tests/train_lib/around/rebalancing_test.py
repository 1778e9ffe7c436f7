# SPDX-License-Identifier: Apache-2.0
"""Re-balancing of the head: rows, loss, phases, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from promptcl.models.parts import base
from promptcl.models.parts import class_statistics
from promptcl.train_lib import probe as probe_lib
from promptcl.train_lib import program as program_lib
from promptcl.train_lib import train
from promptcl.train_lib.around import rebalancing
from promptcl.train_lib.around import replay
from promptcl.train_lib.core import parallel
from promptcl.train_lib.startup import controls
from promptcl.train_lib.steps import optimizer as optimizer_lib
from promptcl.train_lib.steps import train_step as steps
from tests.helpers import fakes

pytestmark = pytest.mark.slow

ONE = jax.devices()[:1]
# Tasks of 5 training steps, and of 0, 2 * 2 and 2 * 4 of re-balancing.
CONFIG = {**fakes.VQ_PROMPT, 'num_epochs': 1, 'eval_per_epochs': 0}


def _statistics(num_slots=1):
  """Four classes; those of class 1 in slot 0 are all the same."""
  rng = np.random.default_rng(0)
  stats = class_statistics.empty(4, num_slots, 3)
  stats = {'mean': rng.normal(size=stats['mean'].shape),
           'variance': rng.random(stats['variance'].shape) + 1,
           'count': np.full((4, num_slots), 9)}
  stats['variance'][1, 0] = 0
  return {name: np.float32(x) for name, x in stats.items()}


def test_an_epoch_takes_as_many_batches_as_there_are_old_classes():
  rows = rebalancing.epoch_rows(
      np.random.default_rng(3), _statistics(2), [0, 1, 2], size=10,
      num_batches=2)
  assert rows['label'].shape == rows['slot'].shape == (2, 10)
  pairs = np.repeat([[0, 0], [0, 1], [1, 1], [2, 0], [2, 1]], 10, axis=0)
  pairs = pairs[np.random.default_rng(3).permutation(50)][:20]
  np.testing.assert_array_equal(rows['label'].ravel(), pairs[:, 0])
  np.testing.assert_array_equal(rows['slot'].ravel(), pairs[:, 1])


def test_rows_come_again_where_too_few_are_left():
  rows = rebalancing.epoch_rows(
      np.random.default_rng(0), _statistics(), [0, 1], size=4, num_batches=3)
  assert rows['label'].shape == (3, 4) and not rows['label'].any()
  with pytest.raises(ValueError, match='no class has two images that differ'):
    rebalancing.epoch_rows(np.random.default_rng(0), _statistics(), [1],
                           size=4, num_batches=1)


def test_the_loss_is_that_of_the_head_on_draws_among_seen_classes():
  config = fakes.config(temperature=2.0)
  stats, normals = _statistics(), np.ones((2, 3), np.float32)
  kernel = np.arange(12, dtype=np.float32).reshape(3, 4) / 10
  bias = np.float32([0.5, -1, 0, 7])
  found, logits, _ = rebalancing.make_loss(config)(base.RowContext(
      params={'head/kernel': kernel, 'head/bias': bias, 'prompt/x': None},
      memory={'rebalance': {'statistics': stats,
                            'seen': np.array([True, True, True, False])}},
      batch={'label': np.array([2, 0]), 'slot': np.array([0, 0])},
      task=None, keys=normals))
  mean, variance = stats['mean'][[2, 0], 0], stats['variance'][[2, 0], 0]
  x = mean + np.sqrt(variance + 1e-4)
  expected = ((x @ kernel + bias) / 2)[:, :3]
  np.testing.assert_allclose(logits[:, :3], expected, rtol=1e-5)
  assert np.all(np.isneginf(logits[:, 3]))
  losses = np.log(np.exp(expected).sum(1)) - expected[[0, 1], [2, 0]]
  assert found == pytest.approx(losses.mean(), rel=1e-5)


def test_rates_are_as_said_whatever_the_batch():
  """1e-4, then the cosine from 1e-5 to 1e-6, over epochs of C_old steps."""
  for size in 1, 4:
    config = fakes.config(per_device_batch_size=size, **{'rebalance.epochs': 2})
    phase = program_lib.config_of(
        config, base.Learning(rebalancing.settings(config)))
    assert rebalancing.batch_size(config) == 4 * size * jax.device_count()
    found = optimizer_lib.learning_rate(
        jnp.arange(1, 7), jnp.int32(3), **optimizer_lib.schedule_options(
            phase, rebalancing.batch_size(config)))
    curve = 1e-6 + 0.5 * 9e-6 * (1 + np.cos(np.pi * np.arange(5) / 6))
    np.testing.assert_allclose(found, [1e-4, *curve], rtol=2e-6)
    assert (phase.optim, phase.weight_decay) == ('adamw', 5e-4)


def _prepared(folder, **changes):
  config = fakes.config(folder, **{**CONFIG, **changes})
  return (config, *train.prepare(config))


def test_a_task_ends_with_the_phase_and_the_first_has_no_steps(tmp_path):
  _, program, stream = _prepared(tmp_path)
  for task, count in zip(stream.tasks, (0, 2, 4), strict=True):
    first, last = program.method.phases(stream, task)
    assert (first.name, first.schedule.num_steps) == ('train', 5)
    assert (last.kind, last.begin) != ('', base.keep_state)
    assert last.schedule.num_steps == 2 * count
    assert last.schedule.steps_per_epoch == max(count, 1)
  assert program_lib.num_steps(program, stream) == [5, 9, 13]


@pytest.fixture(name='setting', scope='module')
def _setting(tmp_path_factory):
  """(folder, program, stream, frozen, state before, probe)."""
  folder = tmp_path_factory.mktemp('setting')
  config, program, stream = _prepared(folder)
  *_, frozen, state = fakes.start(config)
  state = state.replace(memory=program.method.memory(state.params))
  probe = probe_lib.Probe(program, stream, parallel.replicate(frozen))
  return folder, program, stream, frozen, state, probe


def _collected(setting, task_index=0, **changes):
  """State after the hook of a task, and the probe that was asked."""
  folder, _, stream, _, state, probe = setting
  method = _prepared(folder, **changes)[1].method
  state = state.replace(memory=method.memory(state.params))
  task = stream.tasks[task_index]
  probe = probe.at(task)
  return method.phases(stream, task)[-1].begin(state, task_index, probe), probe


@pytest.mark.parametrize('augment', [True, False])
def test_statistics_are_means_and_population_variances(setting, augment):
  after, probe = _collected(setting, 1, **{'rebalance.augment': augment})
  mine, before = after.memory['rebalance'], setting[4]
  np.testing.assert_array_equal(mine['seen'], [0, 0, 1, 1, 0, 0])
  found = probe.features(before, augment=augment)
  other = probe.features(before, augment=not augment)
  assert np.any(found['pre_logits'] != other['pre_logits'])
  for label in range(6):
    own = found['pre_logits'][found['label'] == label].astype(np.float64)
    assert len(own) == (20 if label in (2, 3) else 0)
    assert mine['statistics']['count'][label, 0] == len(own)
    if len(own):
      np.testing.assert_allclose(
          mine['statistics']['mean'][label, 0], own.mean(0), rtol=1e-5)
      np.testing.assert_allclose(
          mine['statistics']['variance'][label, 0],
          np.mean((own - own.mean(0))**2, axis=0), rtol=1e-4)
  assert mine['statistics']['mean'].shape == (6, 1, 16)


def test_one_device_and_eight_collect_the_same(setting):
  _, program, stream, frozen, state, eight = setting
  one = probe_lib.Probe(program, stream, parallel.replicate(frozen, ONE), ONE)
  found = [probe.at(stream.tasks[1]).features(state, augment=True)
           for probe in (one, eight)]
  assert set(found[0]) >= {'label', 'pre_logits'}
  for name, x in found[0].items():
    np.testing.assert_allclose(x, found[1][name], rtol=1e-4, atol=1e-5)


def test_several_gaussians_per_class(setting):
  *others, probe = setting
  own = probe_lib.Probe(probe.program, probe.stream, probe.frozen)
  after, _ = _collected((*others, own), **{'rebalance.clusters': 2})
  stats = after.memory['rebalance']['statistics']
  assert stats['variance'].shape == (6, 2, 16)
  np.testing.assert_array_equal(stats['count'].sum(1), [20, 20, 0, 0, 0, 0])
  assert stats['count'][:2].min() > 0


def _step(program, stream, state, devices):
  """(state, metrics) after a step of the phase of task 1 on some devices."""
  info = steps.TaskInfo.create(1, stream.tasks[1].class_mask, first_step=10,
                               steps_per_epoch=2)
  learning = program.method.learning[rebalancing.KIND]
  step = parallel.pmap(steps.make_train_step(
      program_lib.config_of(program.config, learning), program.model,
      program.method, program.optimizer, learning=learning,
      global_batch_size=learning.batch_size), in_axes=(0, 0, 0, None),
                       devices=devices)
  rows = {'label': np.resize(np.arange(4, dtype=np.int32), 16),
          'slot': np.zeros(16, np.int32)}
  after, metrics = step(
      parallel.replicate(state, devices), parallel.replicate({}, devices),
      parallel.shard(rows, devices), info)
  return parallel.unreplicate(after), parallel.unreplicate(metrics).compute()


def test_only_the_head_moves_and_all_seen_columns_do(setting):
  """The same on one device and on eight."""
  _, program, stream, _, state, _ = setting
  memory = state.memory['rebalance']
  shape = memory['statistics']['mean'].shape
  normals = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  # As after training of the task: without a gradient, prompts would still move.
  moments = jax.tree_util.tree_map_with_path(
      lambda path, x: x + ('prompt' in jax.tree_util.keystr(path)),
      state.opt_state)
  before = state.replace(step=np.int32(10), opt_state=moments, memory={
      **state.memory, 'rebalance': {
          'seen': np.arange(6) < 4, 'statistics': {
              **memory['statistics'], 'mean': normals,
              'variance': np.ones(shape, np.float32)}}})
  (after, metrics), (one, _) = (
      _step(program, stream, before, devices) for devices in (None, ONE))
  moved = {path: np.any(after.params[path] != leaf)
           for path, leaf in before.params.items()}
  assert moved == {path: path.startswith('head/') for path in moved}
  columns = np.any(
      after.params['head/kernel'] != before.params['head/kernel'], axis=0)
  np.testing.assert_array_equal(columns, [1, 1, 1, 1, 0, 0])
  assert float(metrics['learning_rate']) == pytest.approx(0.02, rel=1e-5)
  for path, leaf in one.params.items():
    np.testing.assert_allclose(after.params[path], leaf, rtol=1e-3, atol=2e-5)


def test_it_goes_around_other_methods_and_is_off_in_controls(tmp_path):
  """With a replayed store the phase is the last of a task."""
  plain = {key: value for key, value in CONFIG.items()
           if key.startswith(('rebalance.', 'num_epochs', 'eval_per'))}
  config = fakes.config(tmp_path, **plain, **{
      'replay.capacity': 6, 'replay.review_epochs': 1})
  program, stream = train.prepare(config)
  stream = replay.wrap_stream(config, stream)
  names = [p.name for p in program.method.phases(stream, stream.tasks[1])]
  assert names == ['train', 'review', 'rebalance']
  head = fakes.changed(config, method='none', vit_classifier='token')
  assert not train.prepare(head)[0].method.learning['rebalance'].rates
  other = controls.override(config, 'frozen', 6)
  assert other.rebalance.epochs == 0


@pytest.mark.parametrize('changes, message', [
    ({'task_heads': True}, 'needs one head over all tasks'),
    ({'freeze_part': ('encoder', 'embedding', 'cls', 'head')},
     'trains the head, which is frozen'),
    ({'gaussian_schedule': True, 'gaussian_mode': 'paper'},
     'has no task borders'),
    ({'optim': 'sgd', 'learning_rate_schedule': 'constant'},
     'optim sgd does not go with')])
def test_what_cannot_work_is_said(tmp_path, changes, message):
  with pytest.raises(ValueError, match=message):
    train.prepare(fakes.config(tmp_path, **{**CONFIG, **changes}))
