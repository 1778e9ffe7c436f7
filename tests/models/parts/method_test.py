# SPDX-License-Identifier: Apache-2.0
"""Parts laid over a method: everything of both, hooks in order."""

import types

import numpy as np
import pytest

from promptcl.models.parts import base
from promptcl.models.parts import method as method_lib


def _hook(word):
  return lambda state, task_index, probe: [*state, (word, task_index, probe)]


def test_a_part_adds_losses_memory_and_hooks_after_those_there_are():
  plain = base.Method(
      base.Prompt(), {'pull': 0.5}, memory=lambda params: {'a': params},
      end_task=_hook('first'), extra_losses=lambda context: {'pull2': context})
  both = plain.with_part(
      loss_weights={'push': 2.0}, memory=lambda params: {'b': 2 * params},
      begin_task=_hook('begin'), end_task=_hook('second'),
      extra_losses=lambda context: {'push': -context})
  assert both.loss_weights == {'pull': 0.5, 'push': 2.0}
  assert both.memory(3) == {'a': 3, 'b': 6}
  assert both.extra_losses(4) == {'pull2': 4, 'push': -4}
  assert both.begin_task([], 1, 'p') == [('begin', 1, 'p')]
  assert both.end_task([], 2, 'p') == [('first', 2, 'p'), ('second', 2, 'p')]
  assert plain.loss_weights == {'pull': 0.5} and plain.memory(3) == {'a': 3}


def test_no_hook_stays_no_hook():
  """So that the state need not leave the devices."""
  both = base.Method(base.Prompt()).with_part(loss_weights={'x': 1.0})
  assert both.begin_task is both.end_task is base.keep_state


@pytest.mark.parametrize('part', [
    {'loss_weights': {'ewc': 1.0}}, {'memory': lambda params: {'ewc': 0}},
    {'extra_losses': lambda context: {'ewc': 0}}])
def test_a_name_is_given_once(part):
  plain = base.Method(
      base.Prompt(), {'ewc': 1.0}, memory=lambda params: {'ewc': 0},
      extra_losses=lambda context: {'ewc': 0})
  with pytest.raises(ValueError, match='ewc'):
    both = plain.with_part(**part)
    both.memory({})
    both.extra_losses(None)


def test_a_method_has_one_phase_of_the_tasks_images():
  stream = types.SimpleNamespace(
      schedule=lambda task: ('schedule', task),
      batches=lambda task, start: iter(
          [np.float32(task), np.float32(4)][start:]))
  (phase,) = method_lib.one_phase(stream, 3)
  assert (phase.name, phase.schedule) == ('train', ('schedule', 3))
  for _ in range(2):
    assert list(phase.batches(0, None)) == [3.0, 4.0]
  assert list(phase.batches(1, None)) == [4.0]
