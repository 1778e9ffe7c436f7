# SPDX-License-Identifier: Apache-2.0
"""EWC and LwF: numbers by hand, and real steps with them."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from promptcl.models.parts import base
from promptcl.train_lib import probe as probe_lib
from promptcl.train_lib import train
from promptcl.train_lib.around import regularization
from promptcl.train_lib.core import parallel
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.steps import train_step as steps
from tests.helpers import fakes

pytestmark = pytest.mark.slow

HEAD = {'method': 'none', 'vit_classifier': 'token'}
WHOLE = {**HEAD, 'freeze_part': ()}
ONE = jax.devices()[:1]


def _context(**fields):
  names = ('params', 'memory', 'logits', 'batch', 'task', 'mask', 'forward')
  return base.LossContext(**{**dict.fromkeys(names), **fields})


def _state(params, memory):
  return state_lib.TrainState(np.int32(0), params, (), memory)


def test_ewc_loss_by_hand():
  method = regularization.ewc(base.Method(base.Prompt()), strength=7.0)
  context = _context(
      params={'w': jnp.array([1.0, 2.0]), 'b': jnp.array(3.0)},
      memory={'ewc': {
          'fisher': {'w': jnp.array([2.0, 4.0]), 'b': jnp.array(10.0)},
          'anchor': {'w': jnp.array([0.0, 1.5]), 'b': jnp.array(3.0)}}})
  assert method.loss_weights == {'ewc': 7.0}
  # (2 * 1^2 + 4 * 0.5^2 + 10 * 0) / 2
  assert method.extra_losses(context)['ewc'] == pytest.approx(1.5)


def test_ewc_sums_importance_over_tasks_and_moves_its_anchor():
  method = regularization.ewc(base.Method(base.Prompt()), strength=1.0)
  params = {'w': np.array([1.0, 2.0])}
  state = _state(params, {'other': 5, **method.memory(params)})
  assert method.extra_losses(_context(
      params=params, memory=state.memory))['ewc'] == 0
  for task, squares in enumerate(([1.0, 0.0], [0.5, 0.25])):
    probe = types.SimpleNamespace(
        squared_gradients=lambda state, s=squares: {'w': np.array(s)})
    state = state.replace(params={'w': np.array([task, 9.0])})
    state = method.end_task(state, task, probe)
  memory = state.memory['ewc']
  np.testing.assert_allclose(memory['fisher']['w'], [1.5, 0.25])
  np.testing.assert_allclose(memory['anchor']['w'], [1.0, 9.0])
  assert state.memory['other'] == 5


def test_distillation_by_hand():
  teacher = jnp.array([[2 * np.log(3.0), 0.0, 50.0]])
  logits = jnp.array([[4.0, 4.0, -80.0]])
  old = jnp.array([True, True, False])
  found = regularization.distillation(logits, teacher, old, temperature=2.0)
  # At temperature 2 the teacher says (3/4, 1/4), the student (1/2, 1/2).
  expected = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
  np.testing.assert_allclose(found, [expected], rtol=1e-5)
  gradient = jax.grad(lambda x: regularization.distillation(
      x, teacher, old, temperature=2.0)[0])(logits)
  # (q - p) / T, as for the cross-entropy with soft targets.
  np.testing.assert_allclose(gradient, [[-0.125, 0.125, 0.0]], atol=1e-6)


def test_distillation_before_anything_is_old_is_nothing():
  logits, teacher = jnp.array([[1.0, -2.0]]), jnp.array([[0.5, 40.0]])
  with jax.debug_nans(True):  # not on the way there, either
    loss, gradient = jax.value_and_grad(
        lambda x: regularization.distillation(
            x, teacher, jnp.zeros(2, bool), temperature=2.0)[0])(logits)
  assert loss == 0
  np.testing.assert_array_equal(gradient, [[0.0, 0.0]])


def test_lwf_remembers_the_network_and_leaves_padding_out():
  method = regularization.lwf(base.Method(base.Prompt()), 3, strength=0.5,
                              temperature=2.0)
  params = {'w': np.array([1.0])}
  state = _state(params, method.memory(params))
  for task, mask in enumerate(([True, False, False], [False, True, False])):
    state = state.replace(params={'w': np.array([2.0 + task])})
    state = method.end_task(state, task, types.SimpleNamespace(
        task=types.SimpleNamespace(class_mask=np.array(mask))))
  known = state.memory['lwf']
  np.testing.assert_array_equal(known['params']['w'], [3.0])
  np.testing.assert_array_equal(known['old'], [True, True, False])
  teacher = {3.0: jnp.array([[2 * np.log(3.0), 0, 0], [0, 0, 0]])}
  found = method.extra_losses(_context(
      memory=state.memory, logits=jnp.array([[0.0, 0, 0], [9.0, -9, 0]]),
      mask=jnp.array([1.0, 0.0]),
      forward=lambda params: teacher[float(params['w'][0])]))
  expected = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
  assert found['lwf'] == pytest.approx(expected, rel=1e-5)
  assert method.loss_weights == {'lwf': 0.5}


@pytest.fixture(scope='module')
def inputs(tmp_path_factory):
  return tmp_path_factory.mktemp('inputs')


def test_what_the_step_adds_to_the_gradient(inputs):
  """strength * F * (theta - anchor), on all leaves of an unfrozen network."""
  config = fakes.config(inputs, **WHOLE, weight_decay=0.0)
  model, plain, _, frozen, state = fakes.start(config)
  rng = np.random.default_rng(0)
  noise = lambda: {path: rng.normal(0, 1, leaf.shape).astype(np.float32)
                   for path, leaf in state.params.items()}
  memory = {'ewc': {'fisher': noise(), 'anchor': noise()}}
  held = regularization.ewc(plain, strength=0.3)
  batch = fakes.batch(4)
  batch = parallel.shard({k: batch[k] for k in ('image', 'label')}, ONE)
  found = []
  for method, remembered in ((plain, {}), (held, memory)):
    gradients = jax.pmap(
        steps.make_gradients(config, model, method), axis_name=parallel.AXIS,
        in_axes=(None, None, 0, None), devices=ONE)
    found.append(parallel.unreplicate(gradients(
        state.replace(memory=remembered), frozen, batch, fakes.task_info())))
  (loss, logits, grads, *_), (
      held_loss, held_logits, held_grads, kept, _) = found
  np.testing.assert_allclose(held_logits, logits, rtol=1e-5, atol=1e-5)
  jax.tree.map(np.testing.assert_array_equal, kept, memory)
  pull = {path: memory['ewc']['fisher'][path] * (
      leaf - memory['ewc']['anchor'][path])
          for path, leaf in state.params.items()}
  for path, extra in pull.items():
    np.testing.assert_allclose(held_grads[path] - grads[path], 0.3 * extra,
                               rtol=1e-3, atol=1e-4, err_msg=path)
  value = 0.5 * sum(np.sum(extra * (state.params[path]
                                    - memory['ewc']['anchor'][path]))
                    for path, extra in pull.items())
  assert float(held_loss - loss) == pytest.approx(0.3 * value, rel=1e-4)


def _two_tasks(config, devices):
  """Host state after two tasks of the real stream on some devices."""
  program, stream = train.prepare(config)
  *_, frozen, state = fakes.start(config)
  state = state.replace(memory=program.method.memory(state.params))
  frozen = parallel.replicate(frozen, devices)
  probe = probe_lib.Probe(program, stream, frozen, devices)
  step = parallel.pmap(
      steps.make_train_step(config, program.model, program.method,
                            program.optimizer, global_batch_size=8),
      in_axes=(0, 0, 0, None), devices=devices)
  for task in stream.tasks[:2]:
    info = fakes.task_info(task.index, classes=np.flatnonzero(task.class_mask))
    state = parallel.replicate(state, devices)
    for batch in parallel.prefetch(stream.batches(task), devices):
      state, _ = step(state, frozen, batch, info)
    state = program.method.end_task(
        parallel.unreplicate(state), task.index, probe.at(task))
  return state


@pytest.fixture(name='free', scope='module')
def _free(inputs):
  """(config without a regularizer, state after two tasks)."""
  config = fakes.config(
      inputs, optim='sgd', learning_rate=8.0, num_epochs=1,
      grad_clip_scope='trainable', **HEAD, **{'continual.train_mask': False})
  return config, _two_tasks(config, ONE)


@pytest.mark.parametrize('changes', [
    {'regularizer': 'ewc', 'ewc_strength': 1.0},
    {'regularizer': 'lwf', 'lwf_strength': 2.0}])
def test_two_devices_learn_what_one_learns(free, changes):
  """Memory included; one trace, as `parallel.pmap` refuses a second."""
  config, free = fakes.changed(free[0], **changes), free[1]
  one, two = (_two_tasks(config, jax.devices()[:n]) for n in (1, 2))
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5)
  jax.tree.map(close, one.params, two.params)
  jax.tree.map(close, one.memory, two.memory)
  assert any(np.max(np.abs(free.params[path] - one.params[path])) > 1e-3
             for path in free.params)  # the regularizer does something
