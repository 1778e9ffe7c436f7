# SPDX-License-Identifier: Apache-2.0
"""IT-Prompt with prototypes of classes where there is no text."""


import numpy as np
import pytest

from promptcl import configs
from promptcl.models.prompts.it_prompt import losses as it_losses
from promptcl.models.prompts.it_prompt import phases as it_phases
from promptcl.train_lib import probe as probe_lib
from promptcl.train_lib import program as program_lib
from promptcl.train_lib import train
from promptcl.train_lib.core import parallel
from promptcl.train_lib.startup import startup
from tests.helpers import fakes
from tests.helpers import it_prompts

pytestmark = pytest.mark.slow

RECIPE = 'it_prompt_vision'


@pytest.fixture(name='inputs', scope='module')
def _inputs(tmp_path_factory):
  folder = tmp_path_factory.mktemp('inputs')
  return {'dataset': fakes.write_data(folder / 'data.npz'),
          'init_checkpoint': fakes.write_checkpoint(folder / 'vit.npz'),
          'model_name': fakes.VARIANT}


@pytest.mark.parametrize('head', ['linear', 'cosine'])
def test_keys_and_anchors_start_as_prototypes(inputs, head):
  program, stream = train.prepare(it_prompts.config(inputs, RECIPE, head=head))
  frozen, state = program.start()
  probe = probe_lib.Probe(program, stream, parallel.replicate(frozen))
  task = stream.tasks[1]
  found = probe.at(task).features(None)
  first = program.method.phases(stream, task)[0]
  state = first.begin(state, 1, probe.at(task))
  keys = state.params['prompt/keys']
  for label in 2, 3:
    mean = it_phases.unit(found['query'][found['label'] == label]).mean(axis=0)
    np.testing.assert_allclose(
        keys[label], mean / np.linalg.norm(mean), atol=1e-6)
  assert not keys[[0, 1, 4, 5]].any()
  memory = state.memory[it_losses.MEMORY]
  np.testing.assert_array_equal(memory['anchors'], keys)
  start = state.params['head/kernel']
  np.testing.assert_array_equal(start, keys.T if head == 'cosine' else 0)
  scales = [np.exp(leaf) for path, leaf in state.params.items()
            if path.endswith('scale')]
  np.testing.assert_allclose(scales, [16] * (2 if head == 'cosine' else 1),
                             rtol=1e-6)


@pytest.mark.parametrize('head, changes', [
    ('linear', {}), ('cosine', {'it_prompt.select_rule': 'task_sum'}),
    ('centroids', {'head_centroids': 3})])
def test_it_learns(inputs, tmp_path, head, changes):
  config = it_prompts.config(
      inputs, RECIPE, head=head, eval_last_only=True, **changes)
  program, stream = train.prepare(config)
  results = train.train_and_evaluate(program, stream, str(tmp_path))
  assert results.summary()['last_acc'] > 0.6  # of 6 classes
  assert results.extras['Acc@task'] > 0.6


@pytest.mark.parametrize('changes, num_classes, classifier', [
    ({}, 100, 76_900),
    ({'dataset': 'cub200', 'continual.num_classes_per_task': 20}, 200, 153_800),
    ({'head': 'cosine'}, 100, 76_801)])
def test_sizes_at_b16(changes, num_classes, classifier):
  config = configs.load(RECIPE)
  config.init_checkpoint = program_lib.RANDOM
  config.update_from_flattened_dict(changes)
  program = program_lib.create(startup.expand(config), num_classes)
  sizes = {path: int(np.prod(leaf.shape))
           for path, leaf in program.split(program.shapes)[1].items()}
  count = lambda part: sum(n for path, n in sizes.items() if part in path)
  assert count('fc_') == 590_592 and count('prompts') == 307_200
  assert count('keys') == 768 * num_classes
  assert count('head/') == classifier
  assert count('') - count('head/') == 590_592 + 307_200 + (
      768 * num_classes) + 1  # the factor of similarities


def test_there_is_no_zero_shot(inputs):
  with pytest.raises(ValueError, match='needs a text tower'):
    train.prepare(it_prompts.config(
        inputs, RECIPE, **{'zero_shot.measure': True}))
