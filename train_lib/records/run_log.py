# SPDX-License-Identifier: Apache-2.0
"""What a run tells while it runs: a progress line and TensorBoard events.

Tags are the original's (`loss`, `accuracy_3`, `avg_acc`, ...); the x-axis of
everything is the global step.
"""

from collections.abc import Callable, Mapping, Sequence
import os
import pathlib
from typing import TYPE_CHECKING

from clu import parameter_overview as clu_overview
from etils import epy
import jax
import ml_collections
import numpy as np
import tqdm

from promptcl.models.parts import base
from promptcl.train_lib.core import hosts
from promptcl.train_lib.core import parallel
from promptcl.train_lib.records import extras
from promptcl.train_lib.records import figures
from promptcl.train_lib.records import metrics as metrics_lib
from promptcl.train_lib.records.results import Results
from promptcl.train_lib.records.results import Scores
from promptcl.train_lib.steps import train_metrics

if TYPE_CHECKING:
  from promptcl.train_lib.program import Program

with epy.lazy_imports():  # brings TensorFlow: with the first event
  from clu import metric_writers

EVENTS = 'events.out.tfevents.*'
_PREFIX = 'log:'


class RunLog:
  """Writes from the first host only; the others stay silent.

  Writing happens in the background; any method raises OSError when something
  that was written before did not reach the disk.

  Attributes:
    bad_step: first step whose loss was found not to be finite, if any.
  """

  def __init__(self, workdir: str, config: ml_collections.ConfigDict, *,
               num_tasks: int, num_steps: int, first_step: int,
               batch_size: int, loss_names: Sequence[str] = ()):
    """`num_steps` of the whole run; `batch_size` is global.

    `loss_names`: terms of the loss that are told beside it.
    """
    self._first_host = hosts.first()
    self._workdir, self.bad_step = pathlib.Path(workdir), None
    self._writer = _Writer(workdir, silent=not self._first_host)
    if first_step == 0:
      self._writer.write_hparams(flat_config(config))
    self._bar = tqdm.tqdm(
        total=num_steps * batch_size, initial=first_step * batch_size,
        unit='img', unit_scale=True, disable=not self._first_host,
        mininterval=1, dynamic_ncols=True)
    self._batch_size, self._num_tasks = batch_size, num_tasks
    self._loss_names = tuple(loss_names)
    self._histograms = config.prompt_histogram
    self._pending: list[train_metrics.TrainMetrics] = []
    # Of the steps before those.
    self._merged: train_metrics.TrainMetrics | None = None

  def train_step(self, metrics: train_metrics.TrainMetrics, *, task: int,
                 phase: base.Phase, step: int) -> None:
    """Takes the metrics of a phase's step (from 1), still on the devices.

    Waits for the step before the last, so that no more than two batches wait
    on the devices.
    """
    self._pending.append(metrics)
    jax.block_until_ready(self._pending[-2:][0])
    self._bar.update(self._batch_size)
    schedule = phase.schedule
    name = '' if phase.name == 'train' else f'{phase.name} '
    self._bar.set_description(
        f'task {task + 1}/{self._num_tasks} {name}'
        f'epoch {(step - 1) // schedule.steps_per_epoch + 1}'
        f'/{schedule.num_epochs} step {step}', refresh=False)

  def flush_train(self, global_step: int, *, task: int) -> dict[str, float]:
    """Writes the means since the last flush and returns them."""
    with np.errstate(all='ignore'):  # the caller looks for what is not finite
      self._merge(global_step)
      values = {k: float(v) for k, v in self._merged.compute().items()}
    self._merged = None
    self._writer.write_scalars(global_step, {**values, 'task_id': task})
    self._bar.set_postfix(
        {name.removeprefix('loss/'): f'{value:.3f}' for name, value
         in values.items() if name.split('/')[0] == 'loss'}, refresh=False)
    return values

  def _merge(self, global_step: int) -> None:
    """Takes the pending metrics, the last of which are of `global_step`."""
    first = global_step - len(self._pending) + 1
    for step, metrics in enumerate(parallel.unreplicate(self._pending), first):
      if self.bad_step is None and not np.isfinite(metrics.loss.total):
        self.bad_step = step
      self._merged = (
          metrics if self._merged is None else self._merged.merge(metrics))
    self._pending = []

  def arrays(self, global_step: int) -> dict[str, np.ndarray]:
    """Metrics since the last flush, for a checkpoint."""
    with np.errstate(all='ignore'):
      self._merge(global_step)
    return {f'{_PREFIX}{i}': np.asarray(leaf)
            for i, leaf in enumerate(jax.tree.leaves(self._merged))}

  def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
    """Takes back what `arrays` gave, among other things."""
    leaves = [v for k, v in sorted(
        arrays.items(), key=lambda item: (len(item[0]), item[0]))
              if k.startswith(_PREFIX)]
    if leaves:
      like = train_metrics.TrainMetrics.none_yet(self._loss_names)
      self._merged = jax.tree.unflatten(jax.tree.structure(like), leaves)

  def flush(self) -> dict[str, int]:
    """Puts all events on the disk; returns `{name: bytes}` of their files."""
    self._writer.flush()
    if not self._first_host:
      return {}
    return {path.name: path.stat().st_size
            for path in sorted(self._workdir.glob(EVENTS))}

  def evaluation(self, global_step: int, scores: Mapping[int, Scores],
                 selection: str) -> None:
    """Writes the accuracies of one evaluation of all sets so far."""
    values = {}
    for i, score in scores.items():
      values[f'accuracy_{i}'] = score.correct[selection] / score.total
      values[f'eval_loss_{i}'] = score.loss
    accuracies = [v for k, v in values.items() if k.startswith('accuracy')]
    values['avg_acc'] = float(np.mean(accuracies))
    values['eval_loss'] = float(np.mean([s.loss for s in scores.values()]))
    self._writer.write_scalars(global_step, values)
    if self._first_host:
      self._bar.write(
          f'step {global_step}: avg_acc {values["avg_acc"]:.2%} over '
          f'{len(scores)} evaluation set(s), {selection} selection')

  def scalars(self, global_step: int, values: dict[str, float]) -> None:
    """Writes what a method has to say."""
    self._writer.write_scalars(global_step, values)

  def task_end(self, global_step: int, results: Results, task: int) -> None:
    """Writes what is known after a task: metrics, pictures, histograms."""
    accuracies = results.accuracies()
    values = metrics_lib.task_metrics(accuracies, task)
    del values['avg_acc']  # `evaluation` wrote it
    for name in results.correct:
      values[f'avg_acc_{name}'] = metrics_lib.task_metrics(
          results.accuracies(name), task)['avg_acc']
    self._writer.write_scalars(
        global_step, {**values, **extras.of_task(results.extras, task)})
    images = {'accuracy_matrix': figures.accuracy_matrix(accuracies)}
    if results.prompt_counts is not None:
      counts = results.prompt_counts[task]
      images['prompt_usage'] = figures.prompt_usage(counts)
      self._write_histograms(global_step, counts)
    self._writer.write_images(global_step, images)

  def pictures(self, global_step: int,
               pictures: Mapping[str, base.HeatMap | base.Overlays]) -> None:
    """Writes what a method shows: `base.HeatMap` and `base.Overlays`."""
    self._writer.write_images(global_step, {
        name: figures.draw(picture) for name, picture in pictures.items()})

  def _write_histograms(self, global_step: int, counts: np.ndarray) -> None:
    """Selected prompts of each set, as the original's `histogram_n`."""
    num_prompts = counts.shape[1]
    for i, row in enumerate(counts):
      if self._histograms and row.sum():
        self._writer.write_histograms(
            global_step,
            {f'histogram_{i}': np.repeat(np.arange(num_prompts), row)},
            {f'histogram_{i}': num_prompts})

  def close(self) -> None:
    self._bar.close()
    self._writer.flush()
    self._writer.close()


class _Writer:
  """CLU's metric writer, whose failures are one line.

  It is made with the first event, as TensorFlow takes seconds to import.
  """

  def __init__(self, workdir: str, *, silent: bool):
    self._workdir, self._silent = workdir, silent
    self._clu_writer: metric_writers.MetricWriter | None = None

  def __getattr__(self, name: str) -> Callable[..., None]:
    nothing_to_do = self._clu_writer is None and name in ('flush', 'close')
    if self._silent or nothing_to_do:
      return lambda *args: None

    def write(*args):
      try:
        if self._clu_writer is None:
          self._clu_writer = metric_writers.create_default_writer(self._workdir)
        return getattr(self._clu_writer, name)(*args)
      except Exception as error:  # pylint: disable=broad-except
        raise OSError(
            f'no events could be written in {self._workdir} '
            f'({_first_cause(error)}); make room there and run the same '
            'command again, it goes on from the last checkpoint') from error

    return write


def _first_cause(error: BaseException) -> str:
  """What went wrong first, without the name of TensorFlow's operation."""
  while error.__cause__ is not None:
    error = error.__cause__
  line = (str(error).strip() or type(error).__name__).splitlines()[0]
  return line.rpartition('}} ')[-1]


def rewind(workdir: str, events: Mapping[str, int]) -> None:
  """Takes back events that were written after a checkpoint.

  Args:
    workdir: of the run.
    events: from `RunLog.flush`, of the time of the checkpoint; files that were
      not there yet are deleted.
  """
  if not hosts.first():
    return
  for path in pathlib.Path(workdir).glob(EVENTS):
    if path.name not in events:
      path.unlink()
    elif path.stat().st_size > events[path.name]:
      os.truncate(path, events[path.name])


def parameter_overview(program: 'Program') -> str:
  """Table of the leaves that train: name, shape and size."""
  _, trainable = program.split(program.shapes)
  return clu_overview.get_parameter_overview(trainable, include_stats=False)


def flat_config(config: ml_collections.ConfigDict
                ) -> dict[str, bool | int | float | str]:
  """`{'continual.num_tasks': 10, ...}`, lists and None as text."""
  flat = {}
  for key, value in config.items():
    if isinstance(value, (ml_collections.ConfigDict,
                          ml_collections.FrozenConfigDict)):
      flat.update({f'{key}.{k}': v for k, v in flat_config(value).items()})
    else:
      plain = isinstance(value, (bool, int, float, str))
      flat[key] = value if plain else str(value)
  return flat
