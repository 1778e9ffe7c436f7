# SPDX-License-Identifier: Apache-2.0
"""Inputs of the parameters that projection protects."""

import jax
import numpy as np
import pytest

from promptcl.train_lib import train
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.steps import collection
from tests.helpers import fakes
from tests.helpers.projections import CLIP
from tests.helpers.projections import DUAL
from tests.helpers.projections import L2P
from tests.helpers.projections import QUERY
from tests.helpers.projections import Setting
from tests.helpers.projections import WIDTH

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def inputs(tmp_path_factory):
  return tmp_path_factory.mktemp('inputs')


def _apply(model, params, images, method):
  """What a method of the model says; compiled as one program."""
  return jax.jit(lambda params, images: model.apply(
      params, images, method=method))(params, images)


@pytest.mark.parametrize('backbone', ['testing', 'CLIP-testing'])
def test_sequences_are_class_token_and_patches_with_positions(inputs, backbone):
  """In front of the norm that CLIP has before its first block."""
  setting = Setting(inputs, 1, **{
      **CLIP, 'model_name': backbone, 'head': 'linear', 'optim': 'adam'})
  task = setting.stream.tasks[0]
  got = setting.probe.at(task).inputs(setting.state, setting.spaces, **QUERY)
  whole = state_lib.overlay(setting.frozen, setting.state.params)
  images = setting.images(task)
  patches = _apply(
      setting.program.model, state_lib.variables(whole), images,
      lambda m, x: m.backbone.embed(x))
  cls = np.broadcast_to(whole['backbone/cls'], (len(images), 1, WIDTH))
  want = np.concatenate([cls, patches], axis=1) + (
      whole['backbone/Transformer/posembed_input/pos_embedding'])
  np.testing.assert_allclose(
      got['sequence'], want.reshape(WIDTH, -1), atol=1e-5)


@pytest.mark.parametrize('count', [1, 8])
def test_token_inputs_are_patches_and_key_inputs_queries(inputs, count):
  setting = Setting(inputs, count, **L2P)
  task, model = setting.stream.tasks[1], setting.program.model
  got = setting.probe.at(task).inputs(setting.state, setting.spaces, **QUERY)
  params = state_lib.variables(
      state_lib.overlay(setting.frozen, setting.state.params))
  images = setting.images(task)
  patches = _apply(model, params, images, lambda m, x: m.backbone.embed(x))
  np.testing.assert_allclose(
      got['tokens'], patches.reshape(WIDTH, -1), atol=1e-5)
  np.testing.assert_allclose(
      got['keys'], _apply(model, params, images, 'class_token'), atol=1e-5)
  moments = setting.probe.at(task).input_moments(
      setting.state, setting.spaces, **QUERY)
  rows = got['tokens'].reshape(-1, WIDTH).astype(np.float64)
  np.testing.assert_allclose(
      moments['tokens'], rows.T @ rows / len(rows), atol=1e-5)


def test_prefix_inputs_are_attention_queries_image_by_image(inputs):
  """By hand in the first block, which no prefix has reached yet."""
  setting = Setting(inputs, 1, **DUAL)
  task = setting.stream.tasks[0]
  got = setting.probe.at(task).inputs(setting.state, setting.spaces, **QUERY)
  whole = state_lib.overlay(setting.frozen, setting.state.params)
  model, images = setting.program.model, setting.images(task)
  tokens = _apply(model, state_lib.variables(whole), images,
                  lambda m, x: m.backbone(x).block_inputs[0])
  block = 'backbone/Transformer/encoderblock_0'
  leaf = lambda name: np.asarray(whole[f'{block}/{name}'], np.float64)
  x = np.asarray(tokens, np.float64)
  x = (x - x.mean(-1, keepdims=True)) / np.sqrt(
      x.var(-1, keepdims=True) + 1e-6)
  x = x * leaf('LayerNorm_0/scale') + leaf('LayerNorm_0/bias')
  attention = 'MultiHeadDotProductAttention_0/query'
  want = np.einsum('btd,dhe->bthe', x, leaf(f'{attention}/kernel')) + (
      leaf(f'{attention}/bias'))
  np.testing.assert_allclose(
      got['layer_0'], want.reshape(WIDTH, -1), atol=1e-4)


def test_an_image_has_the_same_inputs_in_any_batch_and_pairing(inputs):
  found = []
  for pairing in 'port', 'correct':
    setting = Setting(inputs, 1, **{
        **DUAL, 'prompt_pool_param.prefix_pairing': pairing})
    ask = jax.jit(collection.make_inputs(
        setting.program.model, setting.spaces, embedded_query=True))
    images = setting.images(setting.stream.tasks[0])[:6]
    params = dict(setting.state.params)
    found.append(ask(params, setting.frozen, images)['layer_2'])
    alone = ask(params, setting.frozen, images[4:5])['layer_2']
    np.testing.assert_allclose(found[-1][4:5], alone, atol=1e-4)
  np.testing.assert_allclose(*found, atol=1e-4)


def test_the_draw_leaves_training_as_it_is(inputs):
  _, stream = train.prepare(fakes.config(inputs))
  task = stream.tasks[0]
  before = next(iter(stream.batches(task)))['image']
  drawn, again = ([np.concatenate([b[k] for b in stream.drawn_batches(
      task, 11, augment=True)]) for k in ('image', 'mask', 'label', 'index')]
                  for _ in range(2))
  jax.tree.map(np.testing.assert_array_equal, drawn, again)
  assert drawn[1].sum() == 11 and len(drawn[1]) == 16
  assert set(drawn[2][:11]) == {0, 1}  # of both classes of the task
  assert len(np.unique(drawn[0][:11].reshape(11, -1), axis=0)) == 11
  np.testing.assert_array_equal(
      next(iter(stream.batches(task)))['image'], before)
  plain = np.concatenate([b['image'] for b in stream.drawn_batches(
      task, 11, augment=False)])
  assert np.any(plain != drawn[0])
