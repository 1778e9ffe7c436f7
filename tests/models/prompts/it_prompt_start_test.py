# SPDX-License-Identifier: Apache-2.0
"""IT-Prompt before its first step: start values, sizes and what is refused."""

import functools

import jax
import numpy as np
import pytest

from promptcl import configs
from promptcl.models.networks import text
from promptcl.models.prompts.it_prompt import losses as it_losses
from promptcl.models.prompts.it_prompt import phases as it_phases
from promptcl.train_lib import probe as probe_lib
from promptcl.train_lib import program as program_lib
from promptcl.train_lib import train
from promptcl.train_lib.core import parallel
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.startup import startup
from promptcl.train_lib.steps import optimizer as optimizer_lib
from promptcl.train_lib.steps import train_step as steps
from tests.helpers import it_prompts

pytestmark = pytest.mark.slow


@pytest.fixture(name='inputs', scope='module')
def _inputs(tmp_path_factory):
  return it_prompts.write_inputs(tmp_path_factory.mktemp('inputs'))


def _arrived(config, num_tasks=3):
  """(program, stream, frozen, state) when the first tasks have arrived."""
  program, stream = train.prepare(config)
  frozen, state = program.start()
  probe = probe_lib.Probe(program, stream, parallel.replicate(frozen))
  for task in stream.tasks[:num_tasks]:
    first = program.method.phases(stream, task)[0]
    state = first.begin(state, task.index, probe.at(task))
  return program, stream, frozen, state


@functools.cache
def _forward(config):
  """-> `run(frozen, state, image)`: logits, chosen tasks and embeddings."""
  model = train.prepare(config)[0].model

  @jax.jit
  def run(frozen, state, image):
    query = model.apply(state_lib.variables(frozen), image, method='query')
    out = model.apply(
        state_lib.variables(state_lib.overlay(frozen, state.params)), image,
        query, np.int32(-1), train=False, memory=state.memory)
    return out.logits, out.selection.indices[:, 0], query.embedding

  return run


@functools.cache
def _outputs(config, num_tasks=3):
  """Logits, chosen tasks and plain zero-shot logits of all test images."""
  _, stream, frozen, state = _arrived(config, num_tasks)
  found = [[], [], [], []]
  for eval_set in stream.eval_sets:
    for batch in stream.eval_batches(eval_set):
      real = batch['mask'] > 0
      for parts, x in zip(found, (
          *_forward(config)(frozen, state, batch['image']), batch['label']),
                          strict=True):
        parts.append(np.asarray(x)[real])
  logits, tasks, z, labels = map(np.concatenate, found)
  zero_shot = np.exp(3.0) * it_phases.unit(z) @ it_phases.unit(
      frozen['prompt/text']).T
  return logits, tasks, zero_shot, labels, stream


@pytest.mark.parametrize('recipe', ['class', 'off'])
def test_before_training_it_is_zero_shot_clip(inputs, recipe):
  changes = {} if recipe == 'class' else {
      'it_prompt.selector': 'zero_shot', 'it_prompt.align': False}
  logits, tasks, zero_shot, _, _ = _outputs(it_prompts.config(
      inputs, use_e_prompt=False, **changes))
  np.testing.assert_allclose(logits, zero_shot, atol=1e-4)
  best = zero_shot.argmax(axis=1)
  assert len(set(best)) > 2
  np.testing.assert_array_equal(logits.argmax(axis=1), best)
  np.testing.assert_array_equal(tasks, best // 2)


def test_tasks_that_have_not_arrived_are_never_chosen(inputs):
  config = it_prompts.config(inputs)
  tasks = _outputs(config, num_tasks=2)[1]
  assert set(tasks) <= {0, 1} and set(_outputs(config)[1]) > {2}


def test_names_belong_to_columns_and_labels_to_nothing_else(inputs, tmp_path):
  """The same pictures under other labels, names with them."""
  path = inputs['dataset'].removeprefix('npz:')
  arrays, order = dict(np.load(path)), np.array([3, 0, 5, 1, 4, 2])
  arrays['class_names'] = arrays['class_names'][np.argsort(order)]
  for split in 'train', 'test':
    labels = arrays[f'{split}_labels']
    arrays[f'{split}_labels'] = order[labels].astype(np.int32)
  np.savez(tmp_path / 'data.npz', **arrays)
  seen = []
  for changes in ({}, {'dataset': f'npz:{tmp_path / "data.npz"}'}):
    logits, _, zero_shot, labels, stream = _outputs(it_prompts.config(
        inputs, use_e_prompt=False, **changes))
    names = np.array(stream.class_names)
    seen.append(sorted(zip(names[labels], names[logits.argmax(axis=1)],
                           np.round(zero_shot.max(axis=1), 3), strict=True)))
  assert seen[0] == seen[1]
  assert len({row[1] for row in seen[0]}) > 2


def test_what_starts_as_what_when_a_task_arrives(inputs):
  config = it_prompts.config(inputs, **{'continual.rand_seed': 3})
  program, stream, frozen, state = _arrived(config, num_tasks=2)
  sentences = text.class_embeddings(
      program.model.backbone,
      {f'backbone/{k}': v for k, v in state_lib.flatten(
          program.backbone_params).items()},
      text.class_ids(config, program.model.backbone.text_shape,
                     stream.class_names))
  np.testing.assert_allclose(frozen['prompt/text'], sentences, atol=1e-6)
  assert not any(path.startswith('backbone/text/') for path in frozen)
  assert frozen['prompt/scale'] == frozen['head/scale'] == 3.0
  memory = state.memory[it_losses.MEMORY]
  np.testing.assert_array_equal(memory['owner'], [0, 0, 1, 1, -1, -1])
  for leaf in (memory['anchors'], state.params['prompt/keys'],
               state.params['head/kernel'].T):
    np.testing.assert_array_equal(leaf[:4], frozen['prompt/text'][:4])
    assert not leaf[4:].any()
  prompts = state.params['prompt/prompts']
  np.testing.assert_array_equal(prompts[0], prompts[1])
  assert np.any(prompts[1] != prompts[2])
  assert 0.015 < prompts[0].std() < 0.025
  assert not state.params['prompt/fc_kernel'].any()


def _count(leaves, *parts):
  return sum(int(np.prod(leaf.shape)) for path, leaf in leaves.items()
             if any(part in path for part in parts))


@functools.cache
def _program(recipe):
  config = configs.load(recipe)
  config.init_checkpoint = program_lib.RANDOM
  config = startup.expand(config)
  return program_lib.create(config, 10 * config.continual.num_classes_per_task)


@pytest.mark.parametrize('recipe, keys, all_learned, on_images', [
    ('it_prompt', 51_200, 672_256, 35_840),
    ('it_prompt:imr', 102_400, 774_656, 40_960),
    ('it_prompt:cub200', 102_400, 774_656, 40_960)])
def test_sizes_at_b16(recipe, keys, all_learned, on_images):
  program = _program(recipe)
  _, leaves = program.split(program.shapes)
  assert _count(leaves, 'fc_') == 262_656
  assert _count(leaves, 'keys') == _count(leaves, 'head/') == keys
  assert _count(leaves, 'prompts') == 307_200
  assert _count(leaves, '') == all_learned
  info = steps.TaskInfo.create(
      3, np.arange(keys // 512) // (keys // 5120) == 3, first_step=0,
      steps_per_epoch=1)
  rates = optimizer_lib.task_rates(
      program.method.learning['prompt'].rates, leaves, info)
  moving = {path: np.broadcast_to(rates.get(path, 1.0), leaf.shape)
            for path, leaf in leaves.items()}
  assert sum(np.count_nonzero(x) for x in moving.values()) == on_images
  assert set(np.unique(moving['prompt/prompts'][3])) == {1.0}
  memory = jax.eval_shape(lambda: program.method.memory({}))['it_prompt']
  assert _count({k: leaf for part in ('queries', 'features')
                 for k, leaf in ((f'{part}/{n}', x) for n, x in
                                 memory[part].items())},
                'mean', 'variance') == 4 * keys


@pytest.mark.parametrize('kind, base, least', [
    ('selector', 2.5e-4, 1e-6), ('alignment', 1e-4, 1e-6),
    ('prompt', 0.0125, 1e-6)])
def test_rates_of_the_phases(kind, base, least):
  for recipe, images in (('it_prompt', 128), ('it_prompt:imr', 64)):
    program = _program(recipe)
    learning = program.method.learning[kind]
    options = optimizer_lib.schedule_options(
        program_lib.config_of(program.config, learning),
        learning.batch_size or images)
    assert options['base'] == pytest.approx(base)
    assert options['minimum'] == pytest.approx(least)
    rate = lambda step, options=options: float(optimizer_lib.learning_rate(
        np.float32(step), 10, **options))
    last = 10 * options['num_epochs']
    assert rate(last) == pytest.approx(least, rel=1e-5)
    assert rate(last // 2) == pytest.approx(base / 2, rel=1e-3)


@pytest.mark.parametrize('changes, message', [
    ({'model_name': 'testing', 'init_checkpoint': 'random'},
     'needs config.model_name CLIP-.*testing has no text tower'),
    ({'head': 'linear'}, 'needs config.head cosine or centroids'),
    ({'freeze_part': ('encoder', 'embedding', 'cls', '/text')},
     'needs config.freeze_part with /scale, /text, cls, embedding, encoder'),
    ({'thaw': ('backbone/cls',)}, 'and no thaw'),
    ({'replay.capacity': 12, 'replay.review_epochs': 1}, 'review_epochs 0'),
    ({'gaussian_schedule': True}, 'needs config.continual.scenario class'),
    ({'eval_selection': 'batch'}, 'each image chooses for itself'),
    ({'prompt_pool_param.top_k': 2}, 'top_k 1 and'),
    ({'vit_classifier': 'gap'}, 'vit_classifier token'),
    ({'prompt_pool_param.pool_size': 2}, 'pool_size 2 has no prompt for each'),
    ({'it_prompt.selector_batch': 3}, 'learns from 6 rows a step, which 8')])
def test_what_cannot_work_is_one_line(inputs, changes, message):
  with pytest.raises(ValueError, match=message) as raised:
    train.prepare(it_prompts.config(inputs, **changes))
  assert '\n' not in str(raised.value)


def test_it_learns_of_the_stream_how_many_classes_there_are(inputs):
  """Whatever `num_tasks` says, which unequal tasks do not read."""
  program, stream = train.prepare(it_prompts.config(
      inputs, **{'continual.num_tasks': 1, 'continual.init_cls': 2,
                 'continual.inc_cls': 2}))
  assert (len(stream.tasks), program.model.prompt.num_classes) == (3, 6)


def test_a_class_without_training_images_is_refused(inputs, tmp_path):
  arrays = dict(np.load(inputs['dataset'].removeprefix('npz:')))
  arrays['train_labels'] = np.where(
      arrays['train_labels'] == 3, 2, arrays['train_labels']).astype(np.int32)
  np.savez(tmp_path / 'data.npz', **arrays)
  with pytest.raises(ValueError, match='class 3 of npz.*no training images'):
    train.prepare(it_prompts.config(
        inputs, dataset=f'npz:{tmp_path / "data.npz"}'))
