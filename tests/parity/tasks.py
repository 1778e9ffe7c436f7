# SPDX-License-Identifier: Apache-2.0
"""Several tasks one after the other, as the training loop runs them."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from promptcl.train_lib import evaluate
from promptcl.train_lib import train
from promptcl.train_lib.core import parallel
from promptcl.train_lib.records import metrics as metrics_lib
from promptcl.train_lib.steps import train_step as steps
from tests.parity import bridge
from tests.parity import replicas as replicas_lib
from tests.parity import streams
from tests.parity import tolerances as tol
from tests.parity.fixture import Fixture
from tests.parity.plain import official_matrix
from tests.parity.report import Report

_SUMMARY = {
    'train_accuracy': tol.EXACT, 'learning_rate': tol.RATE,
    'loss': tol.TASK_LOSS, 'l2_grads': tol.TASK_NORM,
    'loss_std': tol.LOSS_STD,
}


def run(fixture: Fixture, report: Report) -> None:
  """All tasks of the file, then the accuracy matrix."""
  trial = _Trial(fixture, report)
  for task in range(len(fixture['train/image'])):
    trial.run_task(task)
  if 'acc_matrix' in fixture:
    want = fixture['acc_matrix']
    report.compare('acc_matrix', official_matrix(trial.accuracies, len(want)),
                   want)


class _Trial:
  """The state between tasks.

  Attributes:
    accuracies: [tasks, tasks], NaN where not evaluated.
  """

  def __init__(self, fixture: Fixture, report: Report):
    self._fixture, self._report, meta = fixture, report, fixture.meta
    self._program = bridge.program_of(fixture)
    self._images, self._labels = (
        streams.global_batches(fixture[f'train/{name}'], axes)
        for name, axes in (('image', 6), ('label', 3)))
    num_tasks, _, batch_size = self._images.shape[:3]
    params = bridge.select(self._program, fixture.under('params'))
    self._replicas = replicas_lib.Replicas(
        self._program, params, devices=fixture.devices,
        step=meta.get('initial_step', 0), global_batch_size=batch_size)
    masks = meta.get('class_masks', [None] * num_tasks)
    width = bridge.num_classes(fixture)
    self._masks = np.stack([bridge.class_mask(m, width) for m in masks])
    self._steps_per_epoch = streams.compare_schedule(
        fixture, report, self._masks, batch_size)
    self._stream = streams.Recorded(
        streams.global_batches(fixture['eval/image'], 6),
        streams.global_batches(fixture['eval/label'], 3), self._masks)
    self._evaluator = evaluate.Evaluator(
        self._program, self._stream, self._replicas.devices)
    self._frozen_moments = replicas_lib.FrozenMoments(self._program, params)
    self._optimizer_made_at = meta.get('initial_step', 0)
    self.accuracies = np.full((num_tasks, num_tasks), np.nan)

  def run_task(self, t: int) -> None:
    """Start, training and evaluation of one task."""
    self._compare_state(t, 'before_transfer')
    replicas, task = self._replicas, self._stream.tasks[t]
    if self._program.config.reinit_optimizer and t > 0:
      self._frozen_moments.reset()
      self._optimizer_made_at = int(replicas.host_state().step)
    self._between(train.begin_task, task)
    self._compare_state(t, 'at_start')
    self._train(t)
    self._compare_state(t, 'after_training')
    self._between(train.end_task, task)
    self._evaluate(t)

  def _between(self, hook: Any, task: Any) -> None:
    """Runs a hook of the training loop, which replicates to all devices."""
    replicas = self._replicas
    replicas.set_state(parallel.unreplicate(
        hook(self._program, replicas.state, task, None)))  # needs no probe

  def _train(self, t: int) -> None:
    replicas = self._replicas
    info = steps.TaskInfo.create(
        t, self._masks[t], first_step=int(replicas.host_state().step),
        steps_per_epoch=self._steps_per_epoch)
    found = []
    for image, label in zip(self._images[t], self._labels[t], strict=True):
      batch = {name: x.reshape(len(replicas.devices), -1, *x.shape[1:])
               for name, x in (('image', image), ('label', label))}
      seen, metrics = replicas.train(batch, info)
      self._frozen_moments.step(seen['grads'])
      found.append(metrics)
    summaries = [merged.compute() for merged in _as_written(
        found, self._steps_per_epoch)]
    prefix = f'task_{t}/train_summary'
    for name, want in self._fixture.under(prefix).items():
      if name not in _SUMMARY:
        self._report.fail(f'{prefix}/{name}', 'nothing of this name here')
        continue
      got = np.array([s[name] for s in summaries])
      self._report.compare(f'{prefix}/{name}', got, want, _SUMMARY[name])

  def _compare_state(self, t: int, moment: str) -> None:
    state, name = self._replicas.host_state(), f'task_{t}/{moment}'
    recorded = self._fixture.under(name)
    params = self._fixture.under(f'{name}/params')
    if params:
      self._report.compare_tree(
          f'{name}/params/*', state.params, params, tol.TASK_PARAMS,
          through=lambda leaves: bridge.params(leaves, self._program.config))
    counters = {
        'step': int(state.step),
        'opt/step': replicas_lib.counter(state, self._optimizer_made_at)}
    for key in counters.keys() & recorded.keys():
      self._report.compare(f'{name}/{key}', counters[key], recorded[key])
    for kind in replicas_lib.MOMENTS:
      if f'opt/{kind}_l2' in recorded:
        self._report.compare(
            f'{name}/opt/{kind}_l2', self._frozen_moments.l2(state, kind),
            recorded[f'opt/{kind}_l2'], tol.TASK_MOMENT)

  def _evaluate(self, t: int) -> None:
    """The real evaluator over the recorded batches."""
    scores = self._evaluator(self._replicas.state, self._replicas.frozen,
                             self._stream.tasks[t], compare=True)
    for i, score in scores.items():
      correct = score.correct[self._evaluator.headline]
      self.accuracies[t, i] = correct / score.total
    metrics = metrics_lib.task_metrics(self.accuracies, t)
    for i, score in scores.items():
      metrics[f'accuracy_{i}'] = self.accuracies[t, i]
      metrics[f'eval_loss_{i}'] = score.loss
    recorded = self._fixture.under(f'task_{t}')
    for name in recorded:
      if name in metrics:
        self._report.compare(f'task_{t}/{name}', metrics[name], recorded[name],
                             _metric_tolerance(name))


def _metric_tolerance(name: str) -> tol.Tolerance:
  if name.startswith('accuracy_'):
    return tol.EXACT
  return tol.LOSS if name.startswith('eval_loss_') else tol.METRIC


def _as_written(metrics: list[Any], steps_per_epoch: int) -> Iterator[Any]:
  """Merges the metrics of steps as the original writes them.

  It writes after the first step of each epoch and after the last step.
  """
  merged = None
  for i, one in enumerate(metrics):
    merged = one if merged is None else merged.merge(one)
    if i % steps_per_epoch == 0 or i == len(metrics) - 1:
      yield merged
      merged = None
