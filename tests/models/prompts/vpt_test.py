# SPDX-License-Identifier: Apache-2.0
"""A prompt that all images share; on CLIP with sentences and projection."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from promptcl.models.networks import vit
from promptcl.models.parts import base
from promptcl.models.prompts import vpt
from promptcl.train_lib import evaluate
from promptcl.train_lib import train
from promptcl.train_lib.around import subspace
from promptcl.train_lib.core import parallel
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.steps import train_step as steps
from tests.helpers import fakes
from tests.helpers.projections import CLIP
from tests.helpers.projections import QUERY
from tests.helpers.projections import Setting
from tests.helpers.projections import WIDTH

pytestmark = pytest.mark.slow

PROMPT, CONTEXT = 'prompt/tokens', 'head/context'


@pytest.fixture(scope='module')
def inputs(tmp_path_factory):
  return tmp_path_factory.mktemp('inputs')


@pytest.fixture(scope='module')
def setting(inputs):
  return Setting(inputs, 1, **CLIP)


@pytest.fixture(scope='module')
def trained(setting):
  """[(state at a task's start, state at its end)] on one compiled step."""
  return setting.train()


def test_the_same_tokens_enter_before_the_first_block_only():
  tokens = np.arange(6, dtype=np.float32).reshape(2, 3)
  prompt = vpt.SharedPrompt(length=2, width=3)
  at = lambda layer: prompt.apply(
      {'params': {'tokens': tokens}}, layer, jnp.zeros((4, 5, 3)), None,
      method='at_layer')[0]
  np.testing.assert_array_equal(at(0).tokens, np.stack([tokens] * 4))
  assert at(0).prefix is None
  assert at(1) == vit.LayerPrompt()


def test_start_values_are_uniform_within_the_inverse_root_of_the_width():
  prompt = vpt.SharedPrompt(length=500, width=16)
  drawn = prompt.init(jax.random.key(0), 0, jnp.zeros((1, 1, 16)), None,
                      method='at_layer')['params']['tokens']
  assert np.abs(drawn).max() == pytest.approx(0.25, rel=1e-2)
  assert np.std(drawn) == pytest.approx(0.5 / np.sqrt(12), rel=2e-2)
  assert np.abs(drawn).max() <= 0.25


@pytest.fixture(scope='module')
def by_hand(setting):
  """-> `logits(images)`: towers, prompt and sentences put together."""
  params = state_lib.overlay(setting.frozen, setting.state.params)
  model, variables = setting.program.model, state_lib.variables(params)
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  ids = np.array(model.head.ids, np.int32)
  context = np.repeat(params[CONTEXT], 2, axis=0)  # two classes a task
  text = jax.jit(lambda v: model.apply(v, ids, context, method=lambda m, i, c: (
      m.backbone.encode_text(i, c))))(variables)
  scale = np.exp(params['backbone/embedding_scale'])

  def prompt_at(layer, x, carry):
    del x
    return vit.LayerPrompt(None if layer else params[PROMPT][None]), carry

  @jax.jit
  def embed(variables, image):
    return model.apply(variables, image, method=lambda m, x: (
        m.backbone.project(m.backbone(x, prompt_at=prompt_at, read=(
            vit.read_class_token)).tokens[:, 0])))

  def logits(images):
    image = np.concatenate([embed(variables, x[None]) for x in images])
    return np.asarray(scale * unit(image) @ unit(text).T)

  return logits


def test_logits_by_hand(setting, by_hand):
  images = fakes.batch(5)['image']
  some = np.arange(6) == 3  # the second task's sentences are read, no others

  @jax.jit
  def run(variables):
    return [setting.program.model.apply(
        variables, images, base.Query(), jnp.int32(-1), train=False,
        classes=classes).logits for classes in (None, some)]

  every, got = run(state_lib.variables(
      state_lib.overlay(setting.frozen, setting.state.params)))
  want = by_hand(images)
  np.testing.assert_allclose(every, want, atol=1e-4)
  assert np.ptp(want) > 0.1
  np.testing.assert_allclose(got[:, 2:4], want[:, 2:4], atol=1e-4)
  assert not np.any(got[:, [0, 1, 4, 5]])


@pytest.mark.parametrize('scope', ['trainable', 'all'])
def test_gradients_reach_the_prompt_and_the_tasks_context_and_no_other(
    setting, by_hand, scope):
  config = fakes.changed(setting.program.config, grad_clip_scope=scope)
  run = parallel.pmap(
      steps.make_gradients(config, setting.program.model,
                           setting.program.method),
      in_axes=(None, None, 0, None), devices=setting.devices)
  batch = fakes.batch(4)
  batch = {'image': batch['image'], 'label': batch['label'] % 2 + 2}
  loss, _, grads, *_ = parallel.unreplicate(run(
      setting.state, setting.frozen, parallel.shard(batch, setting.devices),
      fakes.task_info(1, classes=(2, 3))))
  trains = {path: grads[path] for path in setting.state.params}
  assert set(trains) == {PROMPT, CONTEXT}
  assert (set(grads) == set(trains)) == (scope == 'trainable')
  assert np.all(np.any(trains[PROMPT], axis=1))
  assert np.any(trains[CONTEXT], axis=(1, 2)).tolist() == [False, True, False]
  logits = by_hand(batch['image'])[:, 2:4]
  assert float(loss) == pytest.approx(
      _cross_entropy(logits, batch['label'] - 2).mean(), abs=1e-4)


def test_only_the_prompt_and_the_tasks_context_move(trained):
  """`parallel.pmap` refuses a second trace, so all tasks compile once."""
  for task, (begun, ended) in enumerate(trained):
    assert np.all(begun.params[PROMPT] != ended.params[PROMPT])
    moved = begun.params[CONTEXT] != ended.params[CONTEXT]
    assert [np.all(each) for each in moved] == [j == task for j in range(3)]
    assert [np.any(each) for each in moved] == [j == task for j in range(3)]


def test_bases_grow_from_sequences_and_the_prompt_after_each_task(
    setting, trained):
  """The prompts count from the first task on; a task trains with the others."""
  known = None
  for task, (begun, ended) in zip(setting.stream.tasks, trained, strict=True):
    basis = begun.memory['pgp']['sequence']
    if known is not None:
      np.testing.assert_allclose(
          basis['active'] @ basis['active'].T, known @ known.T, atol=1e-5)
    assert np.any(basis['active']) == (known is not None)
    rows = setting.probe.at(task).inputs(
        ended, setting.spaces, **QUERY)['sequence']
    assert rows.shape == (WIDTH, 5 * WIDTH)
    sums = subspace.scores(rows, 3) + subspace.scores(
        ended.params[PROMPT].T, 3)
    known = subspace.grow(known, sums, 0.9999)
    basis = ended.memory['pgp']['sequence']
    assert int(basis['rank']) == known.shape[1] > 0
    np.testing.assert_allclose(
        basis['known'] @ basis['known'].T, known @ known.T, atol=1e-4)


def test_without_projection_it_is_the_plain_baseline(inputs, trained):
  plain = Setting(inputs, 1, **{**CLIP, 'pgp.enabled': False}).train()
  first, second = ([ended.params for _, ended in tasks]
                   for tasks in (trained, plain))
  jax.tree.map(np.testing.assert_array_equal, first[0], second[0])
  assert np.any(first[2][PROMPT] != second[2][PROMPT])


def test_one_device_and_eight_learn_the_same(inputs, trained):
  """A step of 8 images, on one device or one on each of eight."""
  eight = Setting(inputs, 8, **CLIP).train()
  for (_, one), (_, many) in zip(trained, eight, strict=True):
    for path, leaf in one.params.items():
      np.testing.assert_allclose(many.params[path], leaf, atol=2e-5)
    bases = [state.memory['pgp']['sequence'] for state in (one, many)]
    assert bases[0]['rank'] == bases[1]['rank']
    np.testing.assert_allclose(*(b['known'] @ b['known'].T for b in bases),
                               atol=1e-4)


def _loss(setting, method, batch, **changes):
  config = fakes.changed(setting.program.config, **changes)
  gradients = steps.make_gradients(config, setting.program.model, method)
  run = parallel.pmap(lambda *args: gradients(*args)[0],
                      in_axes=(None, None, 0, None), devices=setting.devices)
  return float(run(
      setting.state, setting.frozen, parallel.shard(batch, setting.devices),
      fakes.task_info(1, classes=(2, 3)))[0])


def _cross_entropy(logits, labels):
  logits = logits.astype(np.float64)
  return np.log(np.exp(logits).sum(1)) - logits[range(len(labels)), labels]


def test_a_loss_that_looks_at_logits_of_other_classes_gets_them(
    setting, by_hand):
  batch = fakes.batch(4)
  batch = {'image': batch['image'], 'label': batch['label'] % 2 + 2}
  method = setting.program.method.with_part(
      loss_weights={'other': 1.0},
      extra_losses=lambda context: {'other': jnp.mean(context.logits[:, 5])})
  logits = by_hand(batch['image'])
  own = _cross_entropy(logits[:, 2:4], batch['label'] - 2).mean()
  assert _loss(setting, method, batch) == pytest.approx(
      own + logits[:, 5].mean(), abs=1e-4)


def test_replayed_images_see_the_classes_that_they_came_with(setting, by_hand):
  batch = fakes.batch(4)
  label = np.array([2, 3, 0, 1], np.int32)
  mask = np.stack([np.isin(np.arange(6), c) for c in (
      (2, 3), (2, 3), (0, 1), (0, 1))])
  batch = {'image': batch['image'], 'label': label, 'class_mask': mask,
           'replayed': np.array([0, 0, 1, 1], np.float32)}
  logits = np.where(mask, by_hand(batch['image']), -np.inf)
  assert _loss(setting, setting.program.method, batch, **{
      'replay.masked': True, 'replay.capacity': 12}) == pytest.approx(
          _cross_entropy(logits, label).mean(), abs=1e-4)


def test_sentences_are_read_once_an_evaluation_and_scores_are_as_by_hand(
    setting, by_hand):
  evaluator = evaluate.Evaluator(setting.program, setting.stream,
                                 setting.devices)
  calls, vectors = [], evaluator._vectors
  evaluator._vectors = lambda *args: (calls.append(args), vectors(*args))[1]
  state = parallel.replicate(setting.state, setting.devices)
  scores = evaluator(state, setting.probe.frozen, setting.stream.tasks[2],
                     compare=True)
  assert len(calls) == 1 and list(scores) == [0, 1, 2]
  owner = np.repeat(range(3), 2)
  for index, score in scores.items():
    batches = list(setting.stream.eval_batches(setting.stream.eval_sets[index]))
    real = np.concatenate([b['mask'] for b in batches]) > 0
    images, labels = (np.concatenate([b[k] for b in batches])[real]
                      for k in ('image', 'label'))
    logits = by_hand(images)
    for name, allowed in (('per_sample', owner <= 2),
                          ('per_sample_task_inc', owner == index),
                          ('until_own_task', owner <= index)):
      best = np.argmax(np.where(allowed, logits, -np.inf), axis=1)
      assert score.correct[name] == np.sum(best == labels), (index, name)


def test_a_run_names_the_number_that_tells_the_task(inputs, tmp_path):
  config = fakes.config(inputs, **CLIP, num_epochs=1)
  train.train_and_evaluate(*train.prepare(config), str(tmp_path))
  found = json.loads((tmp_path / 'results.json').read_text())
  assert found['headline']['selection'] == 'per_sample'
  told = {name: entry['classes_competing']
          for name, entry in found['selections'].items()}
  assert told == {'per_sample': 'seen', 'per_sample_task_inc': 'own task',
                  'top5': 'seen',
                  'until_own_task': "tasks up to the image's own"}
  counts = {name: np.array(found['selections'][name]['correct'])
            for name in told}
  leaked, honest, known = (counts[name] for name in (
      'until_own_task', 'per_sample', 'per_sample_task_inc'))
  for t in range(3):
    assert leaked[t][0] == known[t][0]  # the first task's own, for ever
    assert leaked[t][t] == honest[t][t]  # nothing is known of the newest
    assert all(known[t][:t + 1] >= leaked[t][:t + 1])
    assert all(leaked[t][:t + 1] >= honest[t][:t + 1])
