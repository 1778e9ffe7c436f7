# SPDX-License-Identifier: Apache-2.0
"""What must agree before two numbers may stand in one column.

  protocol = settings(config, {**provenance, **cut(config, stream)})
  digest(protocol)                                # '3f0c9a...', 16 digits

`settings` is a flat dict of plain values: data and their cut, class order,
tasks, preparation of images, weights, choice at test time, images scored and
the version of the metrics.  Seed, method, learning rate, epochs, batch size
and machine are free to differ: they are what a table compares.  Two cases need
care:

* **Class orders.**  An order that is drawn anew in each run (`continual.
  rand_seed` equals `seed`, as the presets coda, hide and strict tie them) is a
  property of the protocol, the draw itself is chance like any start value: only
  the rule is kept.  An order that stays the same while the seed varies is part
  of the problem that is solved, so its seed is kept, too.
* **The batch vote.**  With it the images that share a device's batch, and so
  their order and the batch size, change the number; without it they do not.
  Images reach the devices in consecutive runs of `per_device_batch_size`, so
  the number of devices and hosts changes nothing.
"""

from collections.abc import Iterable, Sequence
import hashlib
import json
import re
from typing import TYPE_CHECKING

from ml_collections import ConfigDict
import numpy as np

from promptcl.train_lib.records import metrics
from promptcl.train_lib.records import report

if TYPE_CHECKING:
  from promptcl.input_pipeline.pipeline import TaskStream

SEED_OF_RUN = 'seed of the run'
_CHOSEN = ('batch', 'per_sample')
VOTE_KEYS = ('selection', 'vote_batch', 'vote_order')


def settings(config: ConfigDict, provenance: report.Json) -> report.Json:
  """Everything that must agree, by name.

  Args:
    config: expanded.
    provenance: `weights_sha256` (None for random weights), `dataset`,
      `global_batch_size` and the entries of `cut`.

  Returns:
    Strings, numbers, booleans and lists of them; equal for equal protocols.
  """
  return {
      'dataset': _without_folders(provenance['dataset']),
      'train_images': provenance['train_images'],
      'test_images': provenance['test_images'],
      'label_counts': provenance['label_counts'],
      'split_files': list(provenance['split_files']),
      'subsample_rate': max(config.subsample_rate, -1),
      **_stream(config, provenance),
      'transform': config.transform,
      'augmentation': config.augmentation,
      'input_size': config.input_size,
      'resize_size': config.resize_size,
      'input_range': _input_range(config),
      'backbone': config.model_name,
      'weights_sha256': provenance['weights_sha256'] or 'random',
      **_evaluation(config, provenance),
      'metrics_version': metrics.VERSION,
  }


def digest(protocol: report.Json) -> str:
  """16 hexadecimal digits that differ when any setting does."""
  text = json.dumps(protocol, sort_keys=True, separators=(',', ':'))
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def cut(config: ConfigDict, stream: 'TaskStream') -> report.Json:
  """What of the data a run uses; the part of `settings` only a stream knows.

  Images are counted over all tasks, and labels as the data set numbers them,
  so that the counts do not depend on a drawn class order.

  Args:
    config: expanded; reads `split_files`.
    stream: an `input_pipeline.TaskStream`.

  Returns:
    `classes_per_task` [T], `train_images`, `test_images`, `label_counts` (a
    digest, '' for a stream that does not tell) and `split_files` (checksums).
  """
  counts = getattr(stream, 'label_counts', None)
  return dict(
      classes_per_task=[int(np.sum(t.class_mask)) for t in stream.tasks],
      train_images=_distinct(t.train_indices for t in stream.tasks),
      test_images=_distinct(e.indices for e in stream.eval_sets),
      label_counts='' if counts is None else digest(
          {split: np.asarray(n).tolist() for split, n in counts.items()}),
      split_files=[report.file_sha256(f)[:16] for f in config.split_files])


def for_selection(protocol: report.Json, selection: str) -> report.Json:
  """The settings behind the numbers of one selection of a run.

  A run scores several selections in one pass (see results.py); `settings` are
  those of its headline.

  Args:
    protocol: from `settings`.
    selection: 'batch' or 'per_sample', with or without the suffix of the scores
      with the task known; or 'top5', which is scored as the headline is, and
      'until_own_task', for which other classes compete.
  """
  if selection == report.UNTIL_OWN:
    return {**protocol, 'eval_classes': report.UNTIL_OWN}
  if selection not in (*_CHOSEN, *(s + report.TASK_INCREMENTAL
                                   for s in _CHOSEN)):
    return dict(protocol)
  kept = {k: v for k, v in protocol.items() if k not in VOTE_KEYS}
  chosen = selection.removesuffix(report.TASK_INCREMENTAL)
  kept['task_known'] = chosen != selection
  if protocol['selection'] == 'none':
    return {**kept, 'selection': 'none'}
  vote = {k: protocol[k] for k in VOTE_KEYS if k in protocol}
  return {**kept, **(vote if chosen == 'batch' else {}), 'selection': chosen}


def differences(a: report.Json, b: report.Json
                ) -> dict[str, tuple[object, object]]:
  """`{name: (value in a, value in b)}` of what keeps numbers apart.

  Where no prompt is chosen (fine-tuning, say), no choice can differ: such a run
  fits beside any selection.
  """
  free = VOTE_KEYS if 'none' in (a['selection'], b['selection']) else ()
  return {name: (a.get(name), b.get(name)) for name in {**a, **b}
          if name not in free and a.get(name) != b.get(name)}


def _stream(config: ConfigDict, provenance: report.Json) -> report.Json:
  """Order and kind of the tasks."""
  continual = config.continual
  tasks = {'scenario': continual.scenario,
           'class_order': _class_order(config),
           'reverse_task': config.reverse_task,
           'classes_per_task': list(provenance['classes_per_task'])}
  if config.gaussian_schedule:  # which classes a task admits is drawn
    mode = config.gaussian_mode or 'jax_released'
    tasks |= {'scenario': f'gaussian {mode}',
              'episodes': len(tasks.pop('classes_per_task'))}
    if mode == 'paper':
      tasks['gaussian_steps'] = continual.gaussian_steps
  if continual.scenario == 'domain':
    tasks |= {'domain_order': list(continual.domain_order),
              'domain_outputs': continual.domain_outputs}
  return tasks


def _class_order(config: ConfigDict) -> str:
  """How columns of the head came to their classes."""
  continual = config.continual
  if continual.scenario == 'dataset':
    return 'by data set'
  if continual.class_order:
    return f'listed {digest({"order": list(continual.class_order)})}'
  # CODA-Prompt's rule leaves the order as it is in the run with seed 0.
  if continual.rand_seed == config.seed or (
      (continual.order_rule, continual.rand_seed, config.seed)
      == ('python', -1, 0)):
    return f'{continual.order_rule}, {SEED_OF_RUN}'
  if continual.rand_seed < 0:
    return 'ascending'
  return f'{continual.order_rule}, seed {continual.rand_seed}'


def _evaluation(config: ConfigDict, provenance: report.Json) -> report.Json:
  """Choice of prompts, images scored and classes that compete."""
  choices = {'selection': _selection(config),
             'prompt_choice': config.prompt_choice,
             'task_known': config.continual.eval_task_inc,
             'eval_classes': config.eval_classes,
             'evaluated_after': _evaluated_after(config),
             'images_scored': _images_scored(config, provenance)}
  if choices['selection'] == 'batch':
    choices |= {'vote_batch': config.per_device_batch_size,
                'vote_order': config.eval_order}
  return choices


def _selection(config: ConfigDict) -> str:
  """Of the headline: batch, per_sample, or none without a pool."""
  if not (config.use_e_prompt and config.prompt_pool):
    return 'none'
  if config.prompt_choice != 'key':  # the controls choose image by image
    return 'per_sample'
  if config.eval_selection != 'config':
    return config.eval_selection
  voted = config.prompt_pool_param.batchwise_prompt
  return 'batch' if voted else 'per_sample'


def _evaluated_after(config: ConfigDict) -> str:
  if config.eval_last_only:
    return 'the last task'
  every = config.continual.eval_every_tasks or (
      10 if config.gaussian_schedule else 1)
  return f'every {every} tasks' if every > 1 else 'every task'


def _images_scored(config: ConfigDict, provenance: report.Json) -> str:
  """Batch size matters here only where it decides who is left out."""
  batch = provenance['global_batch_size']
  kinds = []
  if config.eval_drop_remainder:
    kinds.append(f'whole batches of {batch}')
  if config.num_eval_steps > 0:
    kinds.append(f'at most {config.num_eval_steps} batches of {batch} a set')
  return ', '.join(kinds) or 'all'


def _input_range(config: ConfigDict) -> str:
  if config.input_range != 'auto':
    return config.input_range
  return 'zero_one' if config.norm_01 else 'dataset'


def _without_folders(dataset: str) -> str:
  """`npz:/data/pacs.npz` -> `npz:pacs.npz`: places differ between machines."""
  parts = []
  for part in dataset.split(','):
    kind, colon, path = part.partition(':')
    if colon:
      path = re.split(r'[\\/]', path.rstrip('\\/'))[-1]
    parts.append(kind + colon + path)
  return ','.join(parts)


def _distinct(index_lists: Iterable[np.ndarray | Sequence[int]]) -> int:
  """How many different images the lists name."""
  lists = [np.asarray(rows) for rows in index_lists]
  used = np.zeros(1 + max(int(rows.max()) for rows in lists), bool)
  for rows in lists:
    used[rows] = True
  return int(used.sum())
