# SPDX-License-Identifier: Apache-2.0
"""Parts of IT-Prompt that can be switched off."""

import numpy as np
import pytest

from promptcl.models.parts import base
from promptcl.train_lib import evaluate
from promptcl.train_lib import probe as probe_lib
from promptcl.train_lib import train
from promptcl.train_lib.core import parallel
from tests.helpers import it_prompts

pytestmark = pytest.mark.slow

ALL = {'selector': 6, 'prompt': 10, 'alignment': 8}
OFF = {'use_e_prompt': False, 'vit_classifier': 'query'}


@pytest.fixture(name='inputs', scope='module')
def _inputs(tmp_path_factory):
  return it_prompts.write_inputs(tmp_path_factory.mktemp('inputs'))


@pytest.mark.parametrize('changes, steps', [
    ({}, ALL),
    ({'it_prompt.selector': 'zero_shot'}, {**ALL, 'selector': 0}),
    ({'it_prompt.align': False}, {**ALL, 'alignment': 0}),
    ({'head': 'centroids'}, {**ALL, 'alignment': 0}),
    (OFF, {'selector': 6, 'alignment': 8}),
    ({'prompt_choice': 'oracle'}, ALL)])
def test_steps_of_the_second_task(inputs, changes, steps):
  program, stream = train.prepare(it_prompts.config(inputs, **changes))
  phases = program.method.phases(stream, stream.tasks[1])
  assert {p.name: p.schedule.num_steps for p in phases} == steps


def test_losses_can_be_weighed_away(inputs):
  program, _ = train.prepare(it_prompts.config(
      inputs, **{'it_prompt.text_guide': 0.0}))
  assert program.method.extra_losses is base.no_losses
  program, _ = train.prepare(it_prompts.config(inputs))
  assert program.method.loss_weights == {'text_guide': 1.0}


def _run(inputs, workdir, **changes):
  workdir.mkdir(exist_ok=True)
  program, stream = train.prepare(it_prompts.config(inputs, **changes))
  return train.train_and_evaluate(program, stream, str(workdir))


def test_with_everything_off_it_is_zero_shot_clip(inputs, tmp_path):
  found = _run(inputs, tmp_path / 'off', **OFF, **{
      'it_prompt.selector': 'zero_shot', 'it_prompt.align': False})
  plain = _run(inputs, tmp_path / 'plain', method='zero_shot', **{
      **OFF, 'zero_shot.measure': False,
      'freeze_part': ('encoder', 'embedding', 'cls', 'head')})
  for name in 'per_sample', 'per_sample_task_inc':
    np.testing.assert_array_equal(found.correct[name], plain.correct[name])
  assert found.extras['ZS_routed'] == found.extras['ZS_before']
  assert found.extras['dZS'] == 0


def test_without_prompts_the_classifier_still_learns(inputs, tmp_path):
  """By draws of plain embeddings alone."""
  found = _run(inputs, tmp_path, **OFF)
  assert found.summary()['last_acc'] > 0.6  # of 6 classes
  assert found.extras['ZS_routed'] == found.extras['ZS_before']


def test_the_oracle_is_told_the_task(inputs):
  program, stream = train.prepare(
      it_prompts.config(inputs, prompt_choice='oracle'))
  frozen, state = program.start()
  replicated = parallel.replicate(frozen)
  probe = probe_lib.Probe(program, stream, replicated)
  for task in stream.tasks:
    first = program.method.phases(stream, task)[0]
    state = first.begin(state, task.index, probe.at(task))
  scores = evaluate.Evaluator(program, stream)(
      parallel.replicate(state), replicated, stream.tasks[-1], compare=True)
  chosen = [scores[i].prompt_counts for i in range(3)]
  np.testing.assert_array_equal(chosen, 14 * np.eye(3))
