# SPDX-License-Identifier: Apache-2.0
"""Consecutive training steps of one task."""

import re
from typing import Any

import numpy as np

from promptcl.train_lib.steps import optimizer as optimizer_lib
from promptcl.train_lib.steps import train_step as steps
from tests.parity import bridge
from tests.parity import replicas as replicas_lib
from tests.parity import tolerances as tol
from tests.parity.fixture import Fixture
from tests.parity.report import Report

_PER_STEP = {
    'prompt_idx': tol.EXACT, 'train_accuracy': tol.EXACT,
    'logits': tol.LOSS, 'loss': tol.LOSS, 'loss_std': tol.LOSS_STD,
    'reduce_sim': tol.STEP_SIMILARITY, 'learning_rate': tol.RATE,
    'l2_grads': tol.NORM, 'l2_grads_trainable': tol.NORM,
    'l2_grads_frozen': tol.NORM,
}
_MOMENTS = {'grad_sq_ema': tol.SECOND_MOMENT}  # others: tol.FIRST_MOMENT


def run(fixture: Fixture, report: Report) -> None:
  """All steps of the file."""
  meta, program = fixture.meta, bridge.program_of(fixture)
  images, labels = fixture['batch/image'], fixture['batch/label']
  batch_size = meta.get('global_batch_size', int(np.prod(images.shape[1:3])))
  first_step = meta.get('initial_step', 0)
  params = bridge.select(program, fixture.under('params'))
  replicas = replicas_lib.Replicas(
      program, params, devices=images.shape[1], step=first_step,
      global_batch_size=batch_size)
  base_rate = _settings(fixture, report, program, batch_size)
  width = bridge.num_classes(fixture)
  task = steps.TaskInfo.create(
      meta.get('task_id', 0), bridge.class_mask(meta.get('class_mask'), width),
      first_step=first_step, steps_per_epoch=meta.get('steps_per_epoch', 1))

  saved = _saved_steps(fixture)
  seen, states = [], {}
  for step in range(1, len(images) + 1):
    batch = {'image': images[step - 1], 'label': labels[step - 1]}
    seen.append(_one_step(replicas, batch, task))
    if step in saved:
      states[step] = replicas.host_state()

  _compare_steps(fixture, report, seen)
  _compare_gradients(fixture, report, seen[0]['grads'], program)
  for step, state in states.items():
    _compare_state(fixture, report, step, state, program, base_rate)


def _settings(fixture: Fixture, report: Report, program: Any,
              batch_size: int) -> float:
  """Compares what follows from the config alone; returns the base rate."""
  rate = optimizer_lib.schedule_options(program.config, batch_size)['base']
  if 'base_learning_rate' in fixture.meta:
    report.compare('meta.base_learning_rate', rate,
                   fixture.meta['base_learning_rate'], tol.RATE)
  if 'trainable' in fixture.meta:
    trainable = set(program.split(program.shapes)[1])
    recorded = {bridge.our_path(path) for path in fixture.meta['trainable']}
    report.check('meta.trainable', trainable == recorded,
                 f'{len(trainable)} leaves train, {len(recorded)} recorded')
  return rate


def _saved_steps(fixture: Fixture) -> set[int]:
  found = (re.match(r'after_step_(\d+)/', name) for name in fixture.names)
  return {int(match[1]) for match in found if match}


def _one_step(replicas: replicas_lib.Replicas, batch: Any,
              task: steps.TaskInfo) -> dict[str, Any]:
  """Values under the names of `per_step/...`, and the gradients."""
  seen, metrics = replicas.train(batch, task)
  trainable = replicas.host_state().params
  parts = {True: {}, False: {}}
  for path, grad in seen['grads'].items():
    parts[path in trainable][path] = grad
  seen['l2_grads_trainable'] = replicas_lib.l2(parts[True])
  seen['l2_grads_frozen'] = replicas_lib.l2(parts[False])
  return {**seen, **metrics.compute()}


def _compare_steps(fixture: Fixture, report: Report,
                   seen: list[dict[str, Any]]) -> None:
  for name, want in fixture.under('per_step').items():
    if name not in _PER_STEP or name not in seen[0]:
      report.fail(f'per_step/{name}', 'nothing of this name here')
      continue
    report.compare(f'per_step/{name}', np.stack([s[name] for s in seen]), want,
                   _PER_STEP[name])


def _compare_gradients(fixture: Fixture, report: Report, grads: Any,
                       program: Any) -> None:
  through = lambda leaves: bridge.params(leaves, program.config)
  want = fixture.under('step_1/grad')
  if want:
    trainable = program.split(program.shapes)[1]
    got = {path: g for path, g in grads.items() if path in trainable}
    report.compare_tree(
        'step_1/grad/*', got, want, tol.GRADIENT, through=through)
  norms = {bridge.our_path(path): norm
           for path, norm in fixture.under('step_1/grad_l2').items()}
  if norms:
    got = {path: replicas_lib.l2({path: grads[path]}) for path in norms
           if path in grads}
    report.compare_tree('step_1/grad_l2/*', got, norms, tol.GRADIENT)


def _compare_state(fixture: Fixture, report: Report, step: int, state: Any,
                   program: Any, base_rate: float) -> None:
  name = f'after_step_{step}'
  through = lambda leaves: bridge.params(leaves, program.config)
  report.compare_tree(
      f'{name}/params/*', state.params, fixture.under(f'{name}/params'),
      tol.params_after(step, base_rate), through=through)
  if f'{name}/opt/step' in fixture:
    first_step = fixture.meta.get('initial_step', 0)
    report.compare(f'{name}/opt/step', replicas_lib.counter(state, first_step),
                   fixture[f'{name}/opt/step'])
  for kind in replicas_lib.MOMENTS:
    want = fixture.under(f'{name}/opt/{kind}')
    if want:
      got = replicas_lib.moment(state.opt_state, kind)
      report.compare_tree(f'{name}/opt/{kind}/*', got or {}, want,
                          _MOMENTS.get(kind, tol.FIRST_MOMENT),
                          through=through)
