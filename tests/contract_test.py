# SPDX-License-Identifier: Apache-2.0
"""What every method and every recipe must keep to; both are discovered."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from promptcl import configs
from promptcl.configs import listing
from promptcl.configs import names
from promptcl.models import prompts
from promptcl.models.parts import base
from promptcl.train_lib import program as program_lib
from promptcl.train_lib.core import parallel
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.startup import startup
from promptcl.train_lib.steps import optimizer as optimizer_lib
from promptcl.train_lib.steps import train_step as steps
from tests.helpers import fakes

# Those of one file, each method on its first stream, and known pairs of both.
RECIPES = sorted({*listing.recipes(), *names.MOVED.values(), *(
    f'{name}:cifar100' for name in listing.methods())})
# Each method as it offers to be run, and some with other options.
METHODS = {name: prompts.small(name) for name in prompts.available()}
METHODS['dualprompt, defaults'] = {
    'method': 'dualprompt', 'vit_classifier': 'token'}
METHODS['vpt, sentences'] = fakes.CLIP_PROMPTS
METHODS['l2p, mean keys in two layers'] = {
    'method': 'l2p', 'vit_classifier': 'token+prompt',
    'e_prompt_layer_idx': (0, 2), 'prompt_pool_param.prompt_key': False,
    'prompt_pool_param.shared_prompt_pool': True}
CLIPS_OWN = ('prompt/text', 'prompt/scale', 'head/scale')
ONE = jax.devices()[:1]


# Every recipe is built for so many, so that more of them have equal models;
# a multiple of their numbers of tasks.
NUM_CLASSES = 1200


class Bench:
  """One method with random parameters and one compiled step, on one device."""

  def __init__(self, config):
    self.config = config
    (self.model, self.method, optimizer, self.frozen,
     state) = fakes.start(config)
    self.optimizer = _recorded(optimizer)
    self.state = self.start(self.method, state.params)
    # How the method learns from images.
    self.learning = next((way for way in self.method.learning.values()
                          if way.loss is None), base.PLAIN)
    self._step = parallel.pmap(
        steps.make_train_step(self.config, self.model, self.method,
                              self.optimizer, global_batch_size=4,
                              learning=self.learning),
        in_axes=(0, 0, 0, None), devices=ONE)

  def start(self, method, params):
    """The state before the first step."""
    return state_lib.create(params, method, self.optimizer)

  def forward(self, images, *, train):
    """Output of both passes for a batch."""
    def run(params, images):
      query = self.model.apply(params, images, method='query')
      return self.model.apply(params, images, query, jnp.int32(0), train=train)

    params = state_lib.overlay(self.frozen, self.state.params)
    return jax.jit(run)(state_lib.variables(params), images)

  def steps(self, state, batches, info):
    """The state after a step for each batch, all on the host."""
    frozen = jax.tree.map(lambda x: x[None], self.frozen)
    state = parallel.replicate(state, ONE)
    for batch in batches:
      batch = {'image': batch['image'], 'label': batch['label']}
      state, _ = self._step(state, frozen, parallel.shard(batch, ONE), info)
    return parallel.unreplicate(state)

  def train(self, num_tasks=3):
    """Two steps a task; the hooks, made anew, as in a real run."""
    _, method = fakes.tiny_model(self.config)
    state = self.start(method, self.state.params)
    for task in range(num_tasks):
      state = method.begin_task(state, task, None)
      batches = [fakes.batch(4, seed=seed) for seed in range(2)]
      for batch in batches:
        batch['label'] = batch['label'] % 2 + np.int32(2 * task)
      state = self.steps(state, batches, fakes.task_info(
          task, classes=(2 * task, 2 * task + 1)))
      state = method.end_task(state, task, None)
    return jax.tree.map(np.asarray, state)


def _recorded(optimizer):
  """Keeps the gradients that the optimizer gets beside its own state."""
  def update(grads, state, params, **others):
    updates, inner = optimizer.update(grads, state['inner'], params, **others)
    return updates, {'inner': inner, 'gradients': grads}

  return optax.GradientTransformationExtraArgs(
      lambda params: {'inner': optimizer.init(params), 'gradients': params},
      update)


@pytest.fixture(scope='module', params=METHODS)
def bench(request):
  """Shared by the tests of a method: another trace of its step raises."""
  return Bench(fakes.config(**METHODS[request.param]))


@pytest.mark.parametrize('train', [True, False])
def test_shapes_and_types(bench, train):
  out = bench.forward(fakes.batch(4)['image'], train=train)
  assert out.logits.shape == (4, fakes.NUM_CLASSES)
  assert out.logits.dtype == jnp.float32
  assert out.pre_logits.shape == (4, 16)
  assert np.all(np.isfinite(out.logits))
  indices = out.selection.indices
  if indices is not None:
    assert indices.shape[0] == 4 and indices.dtype == jnp.int32
    assert indices.min() >= 0
    assert indices.max() < out.selection.similarity.shape[1]
  assert set(out.selection.losses) <= set(bench.method.loss_weights)
  assert all(loss.shape == () for loss in out.selection.losses.values())


def test_parameters_stand_under_three_names_and_protected_ones_are_wide(bench):
  paths = bench.frozen.keys() | bench.state.params.keys()
  assert {path.partition('/')[0] for path in paths} <= {
      'backbone', 'prompt', 'head'}
  for space in bench.model.prompt.spaces:
    assert all(rows.shape[-1] == 16 for rows in space.rows(bench.state.params))


def test_gradients_are_only_where_something_trains(bench):
  info = fakes.task_info()
  state = bench.steps(bench.state, [fakes.batch(4)], info)
  grads = state.opt_state['gradients']
  assert set(grads) == set(bench.state.params)
  assert {path for path in grads if path.startswith('backbone/')} == {
      path for path in bench.frozen.keys() | grads.keys() if re.fullmatch(
          '|'.join(bench.config.thaw) or 'nothing', path)}
  rates = optimizer_lib.task_rates(
      (*bench.method.rates, *bench.learning.rates), grads, info)
  for path, grad in grads.items():
    assert np.all(np.isfinite(grad)), path
    assert np.any(grad) == np.any(rates.get(path, 1.0)), path


def test_three_tasks_train_on_one_trace_and_repeat_bit_for_bit(bench):
  """`parallel.pmap` raises when a step is traced twice."""
  first, second = bench.train(), bench.train()
  assert first.step == 6
  jax.tree.map(np.testing.assert_array_equal, first, second)
  assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(first))


@pytest.mark.parametrize('hook', ['begin_task', 'end_task'])
def test_hooks_keep_structure_shapes_and_types(bench, hook):
  """They get the state as the run has it on the host: NumPy arrays."""
  state = jax.tree.map(np.asarray, bench.state)
  for task in range(4):  # one more than there are tasks
    after = getattr(bench.method, hook)(state, task, None)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    describe = lambda tree: [(np.shape(leaf), np.asarray(leaf).dtype)
                             for leaf in jax.tree.leaves(tree)]
    assert describe(after) == describe(state)
    state = after


def test_there_are_recipes():
  assert {'cifar100_l2p', 'cifar100_dualprompt', 'digits_l2p'} <= set(RECIPES)


def _recipe(name):
  """The expanded recipe; users give those without weights some."""
  config = configs.load(name)
  if config.init_checkpoint is None:
    config.init_checkpoint = program_lib.RANDOM
  return startup.expand(config)


@pytest.fixture(scope='module')
def create():
  """`program_lib.create`, which traces models that are equal once.

  Nearly all of its time is tracing, and many recipes have the same model.
  """
  found, make = [], state_lib.random_params

  def random_params(model, *, image_size):
    for known, draw in found:
      if known == (model, image_size):
        return draw
    found.append(((model, image_size), make(model, image_size=image_size)))
    return found[-1][1]

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(state_lib, 'random_params', random_params)
    yield lambda config: program_lib.create(config, NUM_CLASSES)


@pytest.mark.parametrize('name', RECIPES)
def test_every_recipe_builds_and_trains_prompts_and_what_it_thaws(name, create):
  config = fakes.changed(_recipe(name), init_checkpoint=program_lib.RANDOM)
  program = create(config)
  frozen, trainable = program.split(program.shapes)
  if config.head == 'sentences':
    assert len(program.model.head.ids) == NUM_CLASSES
  else:
    assert (frozen | trainable)['head/kernel'].shape[1] == NUM_CLASSES
  if program.method.phases is base.no_phases:
    assert not trainable
  else:
    assert any(path.startswith('head/') for path in trainable)
    assert any(path.startswith('prompt/') for path in trainable)
    assert all(path.startswith('backbone/') or path in CLIPS_OWN
               for path in frozen)
  assert frozen.keys() | trainable.keys() == program.shapes.keys()
  # Held twice only where it trains: the query needs it as it was.
  both = frozen.keys() & trainable.keys()
  thawed = {path for path in frozen if any(
      re.fullmatch(rule, path) for rule in config.thaw)}
  assert both == (thawed if config.freeze_part else set(frozen))


def test_every_recipe_says_how_to_run_it():
  for name, module in listing.recipes().items():
    assert f'configs/{name}.py' in module.__doc__
  for name, module in listing.methods().items():
    assert f'configs/{name}.py:STREAM' in module.__doc__


@pytest.mark.parametrize('name', ['digits_l2p', 'digits_clip_zeroshot'])
def test_shipped_weights_fit_the_offline_recipes(name, create):
  config = _recipe(name)
  program = create(config)
  assert pathlib.Path(config.init_checkpoint).stat().st_size < 3 * 2**20
  assert program.backbone_params is not None
