# SPDX-License-Identifier: Apache-2.0
"""PGT and ConvPrompt against plain NumPy, and what moves in which task."""

import copy
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from promptcl import configs
from promptcl.models.networks import vit
from promptcl.models.parts import base
from promptcl.models.prompts import pgt
from promptcl.train_lib import program as program_lib
from promptcl.train_lib import train
from promptcl.train_lib.core import parallel
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.records import figures
from promptcl.train_lib.startup import startup
from promptcl.train_lib.steps import optimizer as optimizer_lib
from promptcl.train_lib.steps import train_step as steps
from tests.helpers import fakes
from tests.helpers import plain_generation

pytestmark = pytest.mark.slow

ONE = jax.devices()[:1]
LAYERS, SIZES = (0, 1), (2, 2, 2)
RATE = 0.3 * 8 / 256
KEY_BIAS = 'prompt/attention/key/bias'
REST_LATER = ('prompt/matcher/', 'prompt/token_mix/', 'prompt/anchors')


def _passes(model, variables, images, memory, task_index=-1):
  """Logits [B, C], prefixes of blocks [B, 2, P, H, d], naive tokens."""
  prefixes = []

  def spy(m):
    def prompt_at(layer, tokens, carry):
      prompt, carry = m.prompt.at_layer(layer, tokens, carry)
      prefixes.append(prompt.prefix)
      return prompt, carry

    query = m.query(images)
    patches, selection = m.select(
        images, query, jnp.int32(task_index), train=False, memory=memory)
    features = m.backbone.encode(patches, prompt_at=prompt_at,
                                 carry=selection.carry,
                                 read=vit.read_class_token)
    return m.head(features.tokens[:, 0].astype(jnp.float32)), query.tokens

  logits, naive = model.apply(variables, method=spy)
  return logits, [p for p in prefixes if p is not None], naive


@functools.cache
def _compiled(method):
  """(parameters, `run(variables, tasks)`, images): `_passes` of two images."""
  options = {'pgt': fakes.PGT, 'convprompt': fakes.CONVPROMPT}[method]
  model, _ = fakes.tiny_model(fakes.config(**options))
  images = fakes.batch(2)['image']
  run = jax.jit(lambda variables, tasks: _passes(
      model, variables, images, {'generation': {'tasks': tasks}}))
  return (fakes.random_params(model),
          lambda params, tasks: run(
              state_lib.variables(params), np.int32(tasks)), images)


def _heads_merged(prefix):
  """[B, 2, P, H, d] -> [B, 2, P, D]."""
  return np.asarray(prefix).reshape(*prefix.shape[:3], -1)


@pytest.mark.parametrize('method', ['pgt', 'convprompt'])
def test_prefixes_and_logits_equal_plain_numpy_after_two_tasks(method):
  params, run, images = _compiled(method)
  logits, prefixes, naive = run(params, 2)
  plain = plain_generation.Plain(params, layers=LAYERS, depth=3, patch=4,
                                 tasks=2, slots=1, sizes=SIZES)
  assert len(prefixes) == len(LAYERS)
  for i, image in enumerate(images):
    tokens = None
    if method == 'pgt':
      tokens = plain.tokens(image)
      np.testing.assert_allclose(naive[i], tokens, atol=1e-5)
    expected, its_prefixes = plain(image, tokens)
    for prefix, its_prefix in zip(prefixes, its_prefixes, strict=True):
      np.testing.assert_allclose(_heads_merged(prefix)[i], its_prefix,
                                 atol=1e-5)
    np.testing.assert_allclose(logits[i], expected, atol=3e-5)

  # Slots of the third task are not in use yet.
  params = copy.deepcopy(params)
  params['prompt/anchors'][2:] = 7.0
  params['prompt/generator/kernel'][:, :, :, 2:] = 1e3
  params['prompt/generator/bias'][:, :, :, 2:] = -1e3
  np.testing.assert_array_equal(logits, run(params, 2)[0])
  params['prompt/anchors'][1] *= -1  # but those of the second are
  assert np.any(logits != run(params, 2)[0])


class Story:
  """Steps of a real program on one device, and the states in between."""

  def __init__(self, devices=ONE):
    self.program = program_lib.create(
        fakes.config(**fakes.PGT), fakes.NUM_CLASSES)
    self.devices = devices
    self._passes = jax.jit(lambda variables, memory: _passes(
        self.program.model, variables, fakes.batch(2)['image'], memory)[1])
    self.frozen, self.state = self.program.start()
    self._step = parallel.pmap(
        steps.make_train_step(self.program.config, self.program.model,
                              self.program.method, self.program.optimizer,
                              global_batch_size=8),
        in_axes=(0, 0, 0, None), devices=devices)

  def begin(self, task):
    self.state = self.program.method.begin_task(state_lib.with_new_optimizer(
        self.state, self.program.optimizer), task, None)
    self._info = steps.TaskInfo.create(
        task, np.arange(6) // 2 == task, first_step=self.state.step,
        steps_per_epoch=20)

  def train(self, count):
    """The last state; images and labels are of the task."""
    frozen = parallel.replicate(self.frozen, self.devices)
    state = parallel.replicate(self.state, self.devices)
    for i in range(count):
      batch = fakes.batch(8, seed=i)
      batch = {'image': batch['image'],
               'label': 2 * self._info.index + batch['label'] % 2}
      state, _ = self._step(state, frozen, parallel.shard(
          batch, self.devices), self._info)
    self.state = parallel.unreplicate(state)
    return self.state

  def prefixes(self):
    params = state_lib.overlay(self.frozen, self.state.params)
    return [_heads_merged(prefix) for prefix in self._passes(
        state_lib.variables(params), self.state.memory)]


@pytest.fixture(scope='module')
def story():
  """(story, {name: state}) of 25 steps in a task and 2 in the next."""
  told = Story()
  told.begin(0)
  states = {'begin': told.state, 'prefixes': told.prefixes()}
  for i in 1, 2, 3:
    states[f'step {i}'] = told.train(1)
  states['task 0'] = told.train(22)
  states['later prefixes'] = told.prefixes()
  told.begin(1)
  states['begin 1'] = told.state
  states['first of task 1'] = told.train(1)
  states['task 1'] = told.train(1)
  return told, states


def test_at_first_every_prefix_token_is_the_shift_of_length_one(story):
  _, states = story
  for prefix in states['prefixes']:
    assert prefix.shape == (2, 2, 3, 16)
    np.testing.assert_allclose(np.linalg.norm(prefix, axis=-1), 1.0, rtol=1e-6)
    assert np.all(prefix == prefix[:, :, :1])


def _woken(state):
  """Leaves that had a gradient so far, by Adam's first moment."""
  return {path for path, mu in optax.tree.get(state.opt_state, 'mu').items()
          if np.any(mu)}


def test_two_layers_that_start_at_zero_wake_one_after_the_other(story):
  told, states = story
  every = set(told.state.params)
  asleep = {path for path in every if path.startswith(
      ('prompt/attention/', 'prompt/naive_norm', 'prompt/prompt_norm'))}
  resting = {'prompt/anchors'}
  assert _woken(states['step 1']) == every - asleep - resting
  later = _woken(states['step 2']) - _woken(states['step 1'])
  assert later == {path for path in asleep if path.startswith(
      ('prompt/attention/out', 'prompt/prompt_norm'))}
  # A bias of the keys shifts all logits of a softmax alike: nothing, rounded.
  assert _woken(states['step 3']) | {KEY_BIAS} == every - resting


def test_tokens_of_a_prefix_stay_equal_when_their_mixing_starts_at_zero(story):
  _, states = story
  kernel = states['task 0'].params['prompt/token_mix/kernel']
  assert np.any(kernel)
  np.testing.assert_array_equal(kernel, np.repeat(kernel[..., :1], 3, axis=-1))
  for prefix, first in zip(states['later prefixes'], states['prefixes'],
                           strict=True):
    assert np.all(prefix == prefix[:, :, :1])
    assert not np.allclose(prefix, first)
  normal = pgt.TOKEN_MIX_INITS['normal'](jax.random.key(0), (2, 5, 3))
  assert 0.01 < np.std(np.diff(normal)) < 0.06


def test_anchors_are_orthonormal_and_rest(story):
  _, states = story
  for name, used in (('begin', 1), ('begin 1', 2)):
    anchors = np.asarray(states[name].params['prompt/anchors'])
    gram = np.diag(np.arange(3) < used)
    np.testing.assert_allclose(anchors @ anchors.T, gram, atol=1e-6)
  for before, after in (('begin', 'task 0'), ('begin 1', 'task 1')):
    np.testing.assert_array_equal(*(
        states[name].params['prompt/anchors'] for name in (before, after)))
  memory = states['begin 1'].memory['generation']
  assert memory['tasks'] == 2
  np.testing.assert_array_equal(memory['start']['prompt/shared'],
                                states['task 0'].params['prompt/shared'])


def test_what_a_later_task_moves_and_how_far(story):
  """The first step of Adam is as long as the rate, wherever it goes."""
  told, states = story
  before, first, after = (
      states[name].params
      for name in ('begin 1', 'first of task 1', 'task 1'))
  moved = {path: np.abs(first[path] - before[path]) for path in before}
  for path in before:
    if path.startswith(REST_LATER):
      np.testing.assert_array_equal(before[path], after[path], err_msg=path)
    elif path == KEY_BIAS:
      assert moved[path].max() < 0.01 * RATE  # see above
    elif path.startswith(('backbone/', 'prompt/naive_norm')):
      assert 0 < moved[path].max() < 0.0051 * RATE, path
    else:
      assert 0.9 * RATE < moved[path].max() < 1.01 * RATE, path
  for path in 'prompt/generator/kernel', 'prompt/generator/bias':
    change = np.moveaxis(np.asarray(after[path] - before[path]), 3, 0)
    assert [bool(np.any(slot)) for slot in change] == [False, True, False]
  for path in 'kernel', 'bias':
    change = np.asarray(after[f'head/{path}'] - before[f'head/{path}'])
    assert np.all(np.any(np.atleast_2d(change), axis=0) == [0, 0, 1, 1, 0, 0])
  for path in 'scale', 'offset':
    change = np.asarray(after[f'head/{path}'] - before[f'head/{path}'])
    assert np.all(np.any(change, axis=1) == [0, 1, 0])


def test_the_query_never_sees_the_norms_that_train(story):
  told, states = story
  query = jax.jit(steps.make_query(told.program.model))
  images = fakes.batch(2)['image']
  fresh = program_lib.create(told.program.config, fakes.NUM_CLASSES).start()[0]
  np.testing.assert_array_equal(query(told.frozen, images).tokens,
                                query(fresh, images).tokens)
  trained = state_lib.overlay(told.frozen, {
      path: leaf for path, leaf in states['task 1'].params.items()
      if path.startswith('backbone/')})
  assert len(set(trained) & set(states['task 1'].params)) == 2 * (2 * 3 + 1)
  assert np.any(query(told.frozen, images).tokens
                != query(trained, images).tokens)


def test_the_held_parts_cost_their_distance_from_the_second_task_on(story):
  told, _ = story
  method = told.program.method
  start = {'prompt/shared': jnp.zeros((2, 3))}
  losses = lambda task: method.extra_losses(base.LossContext(
      params={'prompt/shared': jnp.array([[1., -2., 0.], [0., 0., .5]])},
      memory={'generation': {'start': start}}, logits=None, batch={},
      task=fakes.task_info(task), mask=None, forward=None))
  assert losses(0)['drift'] == 0.0
  assert losses(1)['drift'] == 3.5
  assert method.loss_weights == {'drift': 0.01}


def test_eight_devices_train_as_one_does(story):
  """Also with dropout: its keys belong to images."""
  _, states = story
  eight = Story(jax.devices())
  eight.begin(0)
  after = eight.train(1), eight.train(1), eight.train(1)
  for mine, theirs in zip(after, ('step 1', 'step 2', 'step 3'), strict=True):
    for path, leaf in states[theirs].params.items():
      np.testing.assert_allclose(mine.params[path], leaf, atol=2e-5,
                                 err_msg=path)


def test_bfloat16_is_close_and_keeps_cosines_in_float32():
  params, run, images = _compiled('pgt')
  exact, prefixes, _ = run(params, 3)
  model, _ = fakes.tiny_model(fakes.config(**fakes.PGT, dtype='bfloat16'))
  rough, rough_prefixes, _ = jax.jit(lambda x: _passes(
      model, x, images, {'generation': {'tasks': jnp.int32(3)}}))(
          state_lib.variables(params))
  assert rough_prefixes[0].dtype == jnp.float32
  np.testing.assert_allclose(rough_prefixes[0], prefixes[0], atol=0.05)
  assert np.mean(np.abs(rough - exact)) < 0.05 * np.std(exact)


@pytest.mark.parametrize('options, names', [
    (fakes.PGT, {'anchor_similarity', 'prompt_attention'}),
    (fakes.CONVPROMPT, {'anchor_similarity'})], ids=['pgt', 'convprompt'])
def test_what_the_methods_show_of_themselves(options, names):
  """Pictures of what the prompt sows in a test pass, for two sets."""
  model, method = fakes.tiny_model(fakes.config(**options))
  images = fakes.batch(3)['image']
  params = fakes.random_params(model)

  def run(images):
    query = model.apply(state_lib.variables(params), images, method='query')
    return model.apply(
        state_lib.variables(params), images, query, jnp.int32(-1), train=False,
        memory={'generation': {'tasks': jnp.int32(2)}},
        mutable=['intermediates'])[1]['intermediates']['prompt']

  sown = jax.tree.map(lambda x: np.ones(x.shape), jax.eval_shape(run, images))
  assert [x.shape for x in sown['similarity']] == [(3, 3), (3, 3)]
  shown = {0: {'image': images, **sown}, 1: {'image': images, **sown}}
  pictures = method.pictures(shown)
  assert set(pictures) == names
  np.testing.assert_array_equal(pictures['anchor_similarity'].values,
                                np.full((2, 3), 100.0))
  if 'prompt_attention' in names:
    assert pictures['prompt_attention'].maps.shape == (2, 2, 4)
  assert all(figures.draw(picture).ndim == 4 for picture in pictures.values())


def test_anchors_may_be_compared_with_the_naive_class_token():
  images, found = fakes.batch(2)['image'], []
  for choice in 'block', 'naive':
    model, _ = fakes.tiny_model(fakes.config(**{
        **fakes.PGT, 'generation.anchor_query': choice}))
    params = state_lib.variables(fakes.random_params(model))
    found.append(jax.jit(lambda x, model=model: model.apply(
        x, images, model.apply(x, images, method='query'), jnp.int32(0),
        train=False, mutable=['intermediates'])[1])(params)[
            'intermediates']['prompt']['similarity'])
  (first, second), (naive, again) = found
  assert np.any(first != second)
  np.testing.assert_array_equal(naive, again)


def test_what_prompts_ask_for_is_shared_out_among_tokens():
  weights = np.array([[[0.5, 0.5], [0.0, 1.0]]])[None]  # [1, 1, T, N]
  found = pgt.asked(jnp.asarray(weights), jnp.array([[1.0, -2.0], [1.0, 0.0]]))
  np.testing.assert_allclose(found, [[0.375, 0.625]], rtol=1e-5)
  np.testing.assert_allclose(
      pgt.asked(jnp.asarray(weights), jnp.zeros((2, 2))), [[0.25, 0.75]],
      rtol=1e-5)


@pytest.mark.parametrize('recipe, classes, stored, first, later', [
    ('pgt', 100, 42_975_820, 40_128_946, 39_716_170),
    ('pgt:imr', 200, 43_052_720, 40_136_636, 39_723_860)])
def test_parameter_counts_at_vit_b(recipe, classes, stored, first, later):
  config = configs.load(recipe)
  config.init_checkpoint = program_lib.RANDOM
  program = program_lib.create(startup.expand(config), classes)
  frozen, trainable = program.split(program.shapes)
  assert program_lib.num_elements(trainable) == stored
  assert program_lib.num_elements(
      {k: v for k, v in frozen.items() if k not in trainable}) == 85_760_256
  for task, expected in (0, first), (1, later), (9, later):
    info = steps.TaskInfo.create(
        task, np.arange(classes) // (classes // 10) == task, first_step=0,
        steps_per_epoch=1)
    rates = optimizer_lib.task_rates(program.method.rates, trainable, info)
    moving = sum(np.count_nonzero(np.broadcast_to(
        rates.get(path, 1.0), leaf.shape)) for path, leaf in trainable.items())
    assert moving == expected


def test_there_are_anchors_for_each_task_of_the_stream(tmp_path):
  """Whatever `num_tasks` says, which unequal tasks do not read."""
  config = fakes.config(tmp_path, **fakes.PGT, **{
      'continual.num_tasks': 1, 'continual.init_cls': 2,
      'continual.inc_cls': 2})
  program, stream = train.prepare(config)
  assert len(stream.tasks) == 3
  assert program.model.prompt.slots.counts == (1, 1, 1)
  alone = program_lib.create(config, fakes.NUM_CLASSES)
  assert alone.model.prompt.slots.counts == (1,)


@pytest.mark.parametrize('changes, words', [
    ({'generation.layers': (3,)}, 'layers 0 to 2'),
    ({'generation.anchors': 2}, 'orthogonal in 4 dimensions'),
    ({'generation.anchors_by_task': (1, 1)}, 'number for each of 3 tasks'),
    ({'gaussian_schedule': True}, 'no task borders'),
    ({'vit_classifier': 'token+prompt'}, 'reads prompt tokens'),
    ({'pgp.enabled': True}, 'no prompt tokens or prefixes'),
    ({'thaw': ()}, 'matches no trainable parameter')])
def test_settings_that_cannot_be_are_refused_in_one_line(changes, words):
  with pytest.raises(ValueError, match=words) as error:
    program_lib.create(fakes.config(**{**fakes.PGT, **changes}),
                       fakes.NUM_CLASSES)
  assert '\n' not in str(error.value)
