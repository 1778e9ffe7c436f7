# SPDX-License-Identifier: Apache-2.0
"""Zero-shot CLIP from the command to results.json, against plain arithmetic."""

import json
import pathlib

import jax
import numpy as np
import pytest

from promptcl import configs
from promptcl.models.networks import backbones
from promptcl.models.networks import clip
from promptcl.models.networks import templates
from promptcl.models.networks import text
from promptcl.models.networks import tokenizer as tokenizer_lib
from promptcl.train_lib import program as program_lib
from promptcl.train_lib import train
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.startup import startup
from tests.helpers import fakes
from tests.helpers import weights

VARIANT = 'CLIP-testing'
MERGES = pathlib.Path(__file__).parents[1] / 'merges.txt'
TEMPLATES = ('a photo of the {}.', 'a {} cat', '{}')


def _arrays():
  """Weights of which classes and images differ in what they say."""
  arrays = fakes.backbone_arrays(variant=VARIANT, seed=2)
  arrays['embedding/kernel'] *= 5
  arrays['embedding_scale'] = np.float32(3.0)
  return arrays


@pytest.fixture(scope='module')
def inputs(tmp_path_factory):
  """Flags of a tiny run: data, weights and tokenizer."""
  folder = tmp_path_factory.mktemp('inputs')
  checkpoint = weights.write_hugging_face(
      folder / 'clip', _arrays(), clip.VARIANTS[VARIANT])
  return {
      'dataset': fakes.write_data(folder / 'data.npz'),
      'init_checkpoint': checkpoint, 'model_name': VARIANT, 'input_size': 8,
      'resize_size': 8, 'per_device_batch_size': 4, 'data_threads': 1,
      'continual.num_tasks': 3, 'continual.num_classes_per_task': 2,
      'continual.rand_seed': 5, 'text.tokenizer': str(MERGES),
      'text.templates': TEMPLATES}


def _recipe(inputs, **changes):
  config = configs.load('clip_zeroshot')
  inputs = {**inputs, **changes}
  config.init_checkpoint = inputs.pop('init_checkpoint')
  config.update_from_flattened_dict(inputs)
  return startup.expand(config)


def _unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def _logits(stream):
  """[images, C] by original label, and labels; sentence after sentence."""
  model = backbones.create(VARIANT, image_size=8)
  params = state_lib.variables(_arrays())
  tokenizer = tokenizer_lib.load(str(MERGES))
  encode_text = jax.jit(lambda ids: model.apply(
      params, ids, method='encode_text'))
  encode_image = jax.jit(lambda images: model.apply(
      params, images, method=lambda m, x: m.project(m(x).tokens[:, 0])))
  names = dict(zip(stream.class_order, stream.class_names, strict=True))
  classes = []
  for label in range(fakes.NUM_CLASSES):
    rows = tokenizer_lib.encode(tokenizer, [
        template.format(names[label]) for template in TEMPLATES])
    classes.append(_unit(encode_text(rows)).mean(axis=0))
  images, labels = [], []
  for eval_set in stream.eval_sets:
    for batch in stream.eval_batches(eval_set):
      real = batch['mask'] > 0
      images.append(np.asarray(encode_image(batch['image']))[real])
      labels.append(stream.class_order[batch['label'][real]])
  cosine = _unit(np.concatenate(images)) @ _unit(np.stack(classes)).T
  return np.exp(3.0) * cosine, np.concatenate(labels)


def test_a_run_scores_as_plain_arithmetic_does(inputs, tmp_path):
  program, stream = train.prepare(_recipe(inputs))
  told = program_lib.plan(program, stream, str(tmp_path))
  assert '0 trainable' in told and '0 a task, 0 in all' in told
  train.train_and_evaluate(program, stream, str(tmp_path))
  found = json.loads((tmp_path / 'results.json').read_text())
  assert list(stream.class_order) == found['class_order'] != list(range(6))
  logits, labels = _logits(stream)
  counts = found['selections']['per_sample']['correct']
  for task in range(3):
    seen = np.concatenate([t.classes for t in stream.tasks[:task + 1]])
    allowed = np.where(np.isin(np.arange(6), seen), logits, -np.inf)
    right = allowed.argmax(axis=1) == labels
    own = np.take_along_axis(allowed, labels[:, None], axis=1)[:, 0]
    loss = np.log(np.exp(allowed).sum(axis=1)) - own
    for i, earlier in enumerate(stream.tasks[:task + 1]):
      rows = np.isin(labels, earlier.classes)
      assert counts[task][i] == right[rows].sum(), (task, i)
      assert found['loss'][task][i] == pytest.approx(
          loss[rows].mean(), rel=1e-4)
  assert len(set(counts[2])) > 1  # not all alike


def test_the_text_tower_is_left_out_once_it_has_spoken(inputs):
  program, stream = train.prepare(_recipe(inputs))
  frozen, state = program.start()
  assert not state.params
  assert not any(path.startswith('backbone/text/') for path in frozen)
  assert 'backbone/embedding_scale' in frozen
  assert frozen['head/kernel'].shape == (16, stream.num_classes)
  np.testing.assert_allclose(
      np.linalg.norm(frozen['head/kernel'], axis=0), 1.0, rtol=1e-5)
  assert float(frozen['head/scale']) == 3.0
  for task in stream.tasks:
    assert program.method.phases(stream, task) == ()


def test_ensembles_follow_the_data_set(inputs):
  shape = clip.VARIANTS[VARIANT].text_shape
  config = _recipe(inputs, **{'text.templates': ()})
  ids = text.class_ids(config, shape, ('cat', 'red dog'))
  assert ids.shape == (2, 1, 16)  # a dozen tokens at most
  config = fakes.changed(config, dataset='cifar100')
  ids = text.class_ids(config, shape, ('cat', 'red dog'))
  assert ids.shape[:2] == (2, 18) and ids.shape[2] % 16 == 0
  tokenizer = tokenizer_lib.load(str(MERGES))
  want = tokenizer_lib.encode(
      tokenizer, ['a photo of a red dog.'])[0, :ids.shape[2]]
  at = templates.ENSEMBLES['cifar100'].index('a photo of a {}.')
  np.testing.assert_array_equal(ids[1, at], want)
  config = fakes.changed(config, **{'text.ensemble': False})
  ids = text.class_ids(config, shape, ('cat', 'red dog'))
  np.testing.assert_array_equal(ids[1, 0], want[:ids.shape[2]])


@pytest.mark.parametrize('changes, message', [
    ({'text.tokenizer': ''}, 'no tokenizer.*clip.*text.tokenizer'),
    ({'model_name': 'testing', 'init_checkpoint': 'random'},
     'needs a text tower'),
    ({'head': 'linear'}, "needs config.head = 'cosine'"),
    ({'method': 'none'}, "vit_classifier 'query' is for methods"),
    ({'text.templates': ('a photo',)}, 'must have {} once')])
def test_what_cannot_work_is_one_line_before_anything_is_compiled(
    changes, message, inputs):
  with pytest.raises((ValueError, FileNotFoundError), match=message) as raised:
    train.prepare(_recipe(inputs, **changes))
  assert '\n' not in str(raised.value)


def test_a_tokenizer_with_other_words_is_refused(inputs, tmp_path):
  other = tmp_path / 'merges.txt'
  other.write_text('#version\no f</w>\n')
  with pytest.raises(ValueError, match='has 515 tokens.*trained with 544'):
    train.prepare(_recipe(inputs, **{'text.tokenizer': str(other)}))
