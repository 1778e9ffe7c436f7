# SPDX-License-Identifier: Apache-2.0
"""Evaluation steps over the test batches of several tasks."""

from typing import Any

import numpy as np

from promptcl.train_lib import evaluate
from promptcl.train_lib.steps import train_step as steps
from tests.parity import bridge
from tests.parity import tolerances as tol
from tests.parity.fixture import Fixture
from tests.parity.replicas import Replicas
from tests.parity.report import Report

# Recorded group -> ending of our score's name.
_GROUPS = {'class_incremental': '', 'task_incremental': '_task_inc'}


def run(fixture: Fixture, report: Report) -> None:
  """All tasks of the file."""
  program = bridge.program_of(fixture)
  replicas = Replicas(
      program, bridge.select(program, fixture.under('params')),
      devices=fixture['eval/image'].shape[2])
  tasks = [_task(fixture, replicas, t)
           for t in range(len(fixture['eval/image']))]
  if 'logits' in fixture:
    got = np.stack([[out['logits'] for out in outs] for outs in tasks])
    report.compare('logits', got, fixture['logits'], tol.FEATURES)
  for group, ending in _GROUPS.items():
    if any(name.startswith(f'{group}/') for name in fixture.names):
      _compare(fixture, report, group, tasks, program, ending)


def _task(fixture: Fixture, replicas: Replicas, t: int) -> list[dict[str, Any]]:
  """Outputs of the evaluation step, batch by batch."""
  images, labels = fixture['eval/image'][t], fixture['eval/label'][t]
  masks = fixture.meta.get('class_masks', [None] * (t + 1))
  info = steps.TaskInfo.create(
      t, bridge.class_mask(masks[t], bridge.num_classes(fixture)),
      first_step=0, steps_per_epoch=1)
  return [replicas.evaluate(
      {'image': image, 'label': label,
       'mask': np.ones(label.shape, np.float32)}, info)
          for image, label in zip(images, labels, strict=True)]


def _compare(fixture: Fixture, report: Report, group: str,
             tasks: list[list[dict[str, Any]]], program: Any,
             ending: str) -> None:
  selection = evaluate.headline(program.config, program.model)
  name = selection.removesuffix('_task_inc') + ending
  totals = np.float32([sum(o['total'] for o in outs) for outs in tasks])
  got = {
      'accuracy': [sum(o['correct'][name] for o in outs) for outs in tasks],
      'eval_loss': [sum(o['loss'][name] for o in outs) for outs in tasks]}
  got = {key: np.float32(sums) / totals for key, sums in got.items()}
  if tasks[0][0]['indices'] is not None:
    got['prompt_idx'] = np.stack([
        np.concatenate([o['indices'] for o in outs]) for outs in tasks])
  for array, want in fixture.under(group).items():
    if array not in got:
      report.fail(f'{group}/{array}', 'nothing of this name here')
      continue
    tolerance = tol.LOSS if array == 'eval_loss' else tol.EXACT
    report.compare(f'{group}/{array}', got[array], want, tolerance,
                   remark=f'our {name}')
