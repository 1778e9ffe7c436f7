# Copyright 2026 The JAX Continual Prompting Authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""What a run tells while it runs: a progress line and TensorBoard events.

Tags are the original's (`loss`, `accuracy_3`, `avg_acc`, ...); the x-axis of
everything is the global step.
"""

from typing import Any

from clu import metric_writers
from clu import parameter_overview as clu_overview
import jax
import ml_collections
import numpy as np
import tqdm

from train_lib import figures
from train_lib import metrics as metrics_lib
from train_lib import parallel


class RunLog:
  """Writes from the first host only; the others stay silent."""

  def __init__(self, workdir: str, config: Any, *, num_tasks: int,
               num_steps: int, first_step: int, batch_size: int):
    """`num_steps` of the whole run; `batch_size` is global."""
    first_host = jax.process_index() == 0
    self._writer = metric_writers.create_default_writer(
        workdir, just_logging=not first_host)
    if first_step == 0:
      self._writer.write_hparams(flat_config(config))
    self._bar = tqdm.tqdm(
        total=num_steps * batch_size, initial=first_step * batch_size,
        unit='img', unit_scale=True, disable=not first_host, mininterval=1,
        dynamic_ncols=True)
    self._batch_size, self._num_tasks = batch_size, num_tasks
    self._num_epochs = config.num_epochs
    self._histograms = config.prompt_histogram
    self._pending: list[Any] = []

  def train_step(self, metrics: Any, *, task: int, step: int,
                 steps_per_epoch: int) -> None:
    """Takes the metrics of one step, still on the devices.

    Waits for the step before the last, so that no more than two batches wait
    on the devices.
    """
    self._pending.append(metrics)
    jax.block_until_ready(self._pending[-2:][0])
    self._bar.update(self._batch_size)
    self._bar.set_description(
        f'task {task + 1}/{self._num_tasks} '
        f'epoch {min(step // steps_per_epoch + 1, self._num_epochs)}'
        f'/{self._num_epochs} step {step + 1}', refresh=False)

  def flush_train(self, global_step: int, *, task: int) -> dict[str, float]:
    """Writes the means since the last flush and returns them."""
    merged = None
    with np.errstate(all='ignore'):  # the caller looks for what is not finite
      for metrics in parallel.unreplicate(self._pending):
        merged = metrics if merged is None else merged.merge(metrics)
      values = {k: float(v) for k, v in merged.compute().items()}
    self._pending = []
    self._writer.write_scalars(global_step, {**values, 'task_id': task})
    self._bar.set_postfix(loss=f'{values["loss"]:.3f}', refresh=False)
    return values

  def evaluation(self, global_step: int, scores: Any, selection: str) -> None:
    """Writes the accuracies of one evaluation of all sets so far."""
    values = {}
    for i, score in scores.items():
      values[f'accuracy_{i}'] = score.correct[selection] / score.total
      values[f'eval_loss_{i}'] = score.loss
    accuracies = [v for k, v in values.items() if k.startswith('accuracy')]
    values['avg_acc'] = float(np.mean(accuracies))
    values['eval_loss'] = float(np.mean([s.loss for s in scores.values()]))
    self._writer.write_scalars(global_step, values)
    self._bar.write(f'step {global_step}: avg_acc {values["avg_acc"]:.2%} over '
                    f'{len(scores)} evaluation set(s), {selection} selection')

  def task_end(self, global_step: int, results: Any, task: int) -> None:
    """Writes what is known after a task: metrics, pictures, histograms."""
    accuracies = results.accuracies()
    self._writer.write_scalars(
        global_step, metrics_lib.task_metrics(accuracies, task))
    beside = {f'avg_acc_{name}': metrics_lib.task_metrics(
        results.accuracies(name), task)['avg_acc'] for name in results.correct}
    self._writer.write_scalars(global_step, beside)
    images = {'accuracy_matrix': figures.accuracy_matrix(accuracies)}
    if results.prompt_counts is not None:
      counts = results.prompt_counts[task]
      images['prompt_usage'] = figures.prompt_usage(counts)
      self._write_histograms(global_step, counts)
    self._writer.write_images(global_step, images)

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


def check_finite(metrics: dict[str, float], step: int, task: int,
                 checkpoints: Any) -> None:
  """Stops a run whose loss is no longer a number.

  Raises:
    FloatingPointError: names step, task and the last good checkpoint.
  """
  if np.isfinite(metrics['loss']):
    return
  checkpoints.wait()
  last = checkpoints.latest_task
  raise FloatingPointError(
      f'loss is {metrics["loss"]} at step {step}, task {task}; the last good '
      f'checkpoint is {"none" if last is None else f"that of task {last}"}; '
      'lower config.learning_rate')


def parameter_overview(program: Any) -> str:
  """Table of the leaves that train: name, shape and size."""
  _, trainable = program.split(program.shapes)
  return clu_overview.get_parameter_overview(trainable, include_stats=False)


def flat_config(config: Any) -> dict[str, Any]:
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
