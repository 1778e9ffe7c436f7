# SPDX-License-Identifier: Apache-2.0
"""Whole small runs of tasks whose phases learn in ways of their own."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from promptcl.input_pipeline.streams import order
from promptcl.models.parts import base
from promptcl.models.parts import class_statistics
from promptcl.train_lib import program as program_lib
from promptcl.train_lib import train
from promptcl.train_lib.core import parallel
from promptcl.train_lib.records import run_log
from promptcl.train_lib.resume.checkpoint import DONE
from promptcl.train_lib.resume.checkpoint import TRAINING
from promptcl.train_lib.steps import losses
from promptcl.train_lib.steps import train_step as steps_lib
from tests.helpers import fakes
from tests.helpers import killing
from tests.helpers import programs
from tests.torture import comparison

pytestmark = pytest.mark.slow

ROWS, WIDTH = 16, 16
WARM, ALIGN = 3, 4  # steps of the phases around 5 steps on images


def head_loss(vectors, context):
  """Cross-entropy of the plain head on vectors [B, E]."""
  logits = losses.masked(
      vectors @ context.params['head/kernel'] + context.params['head/bias'],
      context.task.class_mask)
  loss = jnp.mean(losses.cross_entropy(logits, context.batch['label']))
  return loss, logits, {'rows': loss}


def warm_loss(context):
  return head_loss(context.batch['vector'], context)


def align_loss(context):
  labels = context.batch['label']
  return head_loss(class_statistics.draw(
      context.memory['features'], labels, labels * 0, context.keys), context)


def warm_batches(task, made, probe):
  """The task's features, again and again."""
  found = probe.features(None)
  for step in range(made, WARM):
    rows = np.arange(step * ROWS, (step + 1) * ROWS) % task.num_examples
    yield {'label': found['label'][rows], 'vector': found['query'][rows]}


def align_batches(task, made, probe):
  del probe
  for step in range(made, ALIGN):
    rng = np.random.default_rng([task.index, step])
    yield {'label': rng.choice(np.flatnonzero(task.class_mask), ROWS
                               ).astype(np.int32)}


def store_statistics(state, task_index, probe):
  del task_index
  found = probe.features(state)
  return state.replace(memory={'features': class_statistics.learned(
      state.memory['features'], found['pre_logits'], found['label'])})


def with_phases(method, begun):
  """A method of three phases; `begun` collects (task, phase)."""
  def begin(hook, name):
    def called(state, task_index, probe):
      begun.append((task_index, name))
      return hook(state, task_index, probe)
    return called

  def phases(stream, task):
    steps = ALIGN if task.index else 0
    warm, align = (order.Schedule(n, 1, n) for n in (WARM, steps))
    (plain,) = base.one_phase(stream, task)
    return (
        base.Phase('warm', warm, functools.partial(warm_batches, task), 'rows',
                   begin(base.keep_state, 'warm')),
        plain,
        base.Phase('align', align, functools.partial(align_batches, task),
                   'drawn', begin(store_statistics, 'align')))

  rows = functools.partial(base.Learning, batch_size=ROWS,
                           rates=(('prompt/.*', lambda task: 0.0),))
  return dataclasses.replace(
      method, phases=phases,
      memory=lambda params: {
          'features': class_statistics.empty(fakes.NUM_CLASSES, 1, WIDTH)},
      learning={'rows': rows(loss=warm_loss, config={'learning_rate': 0.1}),
                'drawn': rows(loss=align_loss, config={
                    'optim': 'adamw', 'weight_decay': 0.1})})


@pytest.fixture(name='config', scope='module')
def _config(tmp_path_factory):
  return fakes.config(tmp_path_factory.mktemp('inputs'), num_epochs=1,
                      eval_last_only=True, checkpoint_every_steps=2)


@pytest.fixture(name='unbroken', scope='module')
def _unbroken(config, tmp_path_factory):
  """(workdir, hooks that were called, list of all that are, start)."""
  workdir, begun = tmp_path_factory.mktemp('unbroken'), []
  start = programs.Starts(config, lambda config: _prepare(config, begun))
  start(workdir)
  return workdir, tuple(begun), begun, start


def _prepare(config, begun):
  program, stream = train.prepare(config)
  return dataclasses.replace(
      program, method=with_phases(program.method, begun)), stream


@pytest.fixture(name='state', scope='module')
def _state(unbroken):
  """`{path: array}` after the last step."""
  return comparison.last_state(unbroken[0])


def test_each_phase_begins_once_in_order_even_without_steps(unbroken):
  assert unbroken[1] == tuple((task, name) for task in range(3)
                              for name in ('warm', 'align'))


def test_all_steps_of_all_phases_are_made(config, unbroken, state):
  program, stream = _prepare(config, [])
  assert program_lib.num_steps(program, stream) == [
      WARM + 5, WARM + 5 + ALIGN, WARM + 5 + ALIGN]
  assert int(state['step']) == 3 * (WARM + 5) + 2 * ALIGN


def test_the_speed_counts_images_alone(unbroken):
  times = json.loads((unbroken[0] / 'results.json').read_text())['tasks']
  for task in times:
    np.testing.assert_allclose(
        task['images_per_second'] * task['seconds'], 5 * 8, rtol=1e-3)


def test_the_last_phase_has_an_optimizer_of_its_own(state):
  counts = [int(x) for path, x in state.items()
            if path.startswith('opt_state/') and x.dtype == np.int32]
  assert counts == [ALIGN]


def test_statistics_are_of_all_classes(state):
  np.testing.assert_array_equal(state['memory/features/count'], 20)
  assert np.all(state['memory/features/variance'].mean(-1) > 0)


# Tasks of 8, 12 and 12 steps, saved after every second of the run: the points
# are in phases, between phases and between tasks.  Beside each are the hooks
# that the start calls.
def test_a_run_ended_in_any_phase_goes_on_exactly(unbroken, tmp_path):
  expected, _, begun, start = unbroken
  for call, steps, point, hooks in (
      (3, 2, (0, 2, TRAINING), [(0, 'warm')]),
      (3, 2, (0, 4, TRAINING), []),
      (6, 5, (0, 8, DONE), [(0, 'align'), (1, 'warm')]),
      (10, 9, (1, 8, TRAINING), [(1, 'warm'), (1, 'align')]),
      (4, 3, (1, 10, TRAINING), [(1, 'align')])):
    begun.clear()
    killing.end_at(
        killing.Point(run_log.RunLog, 'train_step', call, steps, point),
        lambda: start(tmp_path), tmp_path)
    assert begun == hooks
  begun.clear()
  start(tmp_path)
  assert begun == [(2, 'warm'), (2, 'align')]
  assert comparison.difference(expected, tmp_path) == ''


@functools.cache
def _steps_of_kind(config, kind, count):
  """Trainable leaves before and after a step of a kind on so many devices."""
  devices = jax.devices()[:count]
  program, _ = _prepare(config, [])
  learning = program.method.learning[kind]
  changed = program_lib.config_of(program.config, learning)
  optimizer = program_lib.optimizer_of(changed, program.method)
  step = parallel.pmap(steps_lib.make_train_step(
      changed, program.model, program.method, optimizer, learning=learning,
      global_batch_size=ROWS), in_axes=(0, 0, 0, None), devices=devices)
  frozen, state = program.start()
  stats = {name: x + 1 for name, x in state.memory['features'].items()}
  state = state.replace(memory={'features': stats})
  rng = np.random.default_rng(0)
  batch = {'label': np.arange(ROWS, dtype=np.int32) % 3 % 2,
           'vector': rng.normal(size=(ROWS, WIDTH)).astype(np.float32)}
  after, metrics = step(
      parallel.replicate(state, devices), parallel.replicate(frozen, devices),
      parallel.shard(batch, devices), fakes.task_info(0, classes=(0, 1)))
  return state.params, parallel.unreplicate(after).params, metrics


@pytest.mark.parametrize('kind', ['rows', 'drawn'])
def test_a_kind_is_the_same_on_one_and_on_eight_devices(config, kind):
  before, one, _ = _steps_of_kind(config, kind, 1)
  _, eight, _ = _steps_of_kind(config, kind, 8)
  for path, leaf in one.items():
    np.testing.assert_allclose(leaf, eight[path], rtol=1e-5, atol=1e-6)
    assert np.any(leaf != before[path]) == path.startswith('head/')


def test_the_rate_of_a_kind_is_for_its_own_rows(config):
  _, after, metrics = _steps_of_kind(config, 'rows', 1)
  rate = 0.1 * ROWS / 256
  found = parallel.unreplicate(metrics).compute()['learning_rate']
  np.testing.assert_allclose(found, rate, rtol=1e-6)
  # Adam's first step is the rate itself, for the classes that the loss sees.
  np.testing.assert_allclose(np.abs(after['head/bias'])[:2], rate, rtol=1e-3)


@pytest.mark.parametrize(('change', 'message'), [
    ({'batch_size': 12}, 'learns from 12 rows a step, which 8 devices'),
    ({'config': {'optim': 'sgd'}}, 'optim adam does not go with the sgd'),
    ({'rates': (('none', None),)}, "'none' matches no trainable parameter")])
def test_a_kind_that_cannot_work_is_refused(config, change, message):
  program, _ = train.prepare(config)
  learning = base.Learning(loss=warm_loss, **change)
  with pytest.raises(ValueError, match=message):
    program_lib.check_learning(program, learning)
