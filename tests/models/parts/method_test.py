# SPDX-License-Identifier: Apache-2.0
"""Parts laid over a method: everything of both, hooks in order."""

import dataclasses
import types

import flax
import jax
import numpy as np
import optax
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


def test_a_part_may_have_all_that_a_method_has():
  """Each in its order: that of the method comes first."""
  scaled = lambda by: optax.stateless(
      lambda updates, params: jax.tree.map(lambda x: by(x), updates))
  told = []
  make = lambda word, number, by: dict(
      transform=scaled(by), step_transform=scaled(by),
      rates=((word, number),), learning={word: number},
      update_memory=lambda context: {**context.memory, word: number + sum(
          context.memory.values())},
      phases=lambda stream, task: ((word, stream, task),),
      start=lambda names: lambda params: {**params, word: len(params)},
      check=lambda stream, shapes: told.append((word, stream, shapes)),
      pictures=lambda shown: {word: shown})
  plain = base.Method(base.Prompt(), **make('a', 1, lambda x: x + 1))
  both = plain.with_part(**make('b', 10, lambda x: 2 * x))
  for chain in both.transform, both.step_transform:
    assert chain.update(3.0, chain.init(3.0))[0] == 8.0
  assert both.rates == (('a', 1), ('b', 10))
  assert both.learning == {'a': 1, 'b': 10}
  context = _Context({'c': 100})
  assert both.update_memory(context) == {'c': 100, 'a': 101, 'b': 211}
  assert both.phases('s', 't') == (('a', 's', 't'), ('b', 's', 't'))
  assert both.start(('x',))({}) == {'a': 0, 'b': 1}
  both.check('s', 'shapes')
  assert told == [('a', 's', 'shapes'), ('b', 's', 'shapes')]
  assert both.pictures(5) == {'a': 5, 'b': 5}


@flax.struct.dataclass
class _Context:
  memory: dict


@pytest.mark.parametrize('name', ['step_transform', 'update_memory'])
def test_what_one_of_two_has_stays_as_it_is(name):
  plain, part = base.Method(base.Prompt()), lambda context: context
  assert getattr(plain.with_part(**{name: part}), name) is part
  assert getattr(plain.with_part(**{name: part}).with_part(**{name: None}),
                 name) is part


def test_every_attribute_but_the_prompt_may_come_in_parts():
  """A new one says how, or this fails."""
  names = {field.name for field in dataclasses.fields(base.Method)}
  assert names - {'prompt'} == set(method_lib._JOIN)


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
