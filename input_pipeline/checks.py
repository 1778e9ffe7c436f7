# SPDX-License-Identifier: Apache-2.0
"""What cannot work: settings by themselves, and settings with the data."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from promptcl.input_pipeline.streams import class_orders
from promptcl.input_pipeline.views import preprocess

if TYPE_CHECKING:
  from promptcl.input_pipeline.pipeline import TaskStream


def check(config: ConfigDict, *, global_batch_size: int, process_count: int
          ) -> None:
  """Everything `build` reads.

  Args:
    config: expanded configuration.
    global_batch_size: images per step over all hosts.
    process_count: number of hosts.

  Raises:
    ValueError: one line, names the key and what to do.
  """
  if global_batch_size < 1 or global_batch_size % process_count:
    raise ValueError(f'a global batch of {global_batch_size} does not divide '
                     f'among {process_count} hosts')
  if not 0 < config.input_size <= config.resize_size:
    raise ValueError(
        f'input_size={config.input_size} is cut out of '
        f'resize_size={config.resize_size} and must not be larger')
  for key, have in (('input_range', ('auto', *preprocess.INPUT_RANGES)),
                    ('augmentation', preprocess.AUGMENTATIONS),
                    ('eval_order', ('stored', 'shuffled'))):
    _check_choice(key, config[key], have)
  for key, least in (('num_epochs', 1), ('seed', 0), ('data_threads', 0)):
    if config[key] < least:
      raise ValueError(f'{key}={config[key]} must be at least {least}')
  if config.subsample_rate > 100:
    raise ValueError(f'subsample_rate={config.subsample_rate} is a percentage')
  check_stream(config)


def check_stream(config: ConfigDict) -> None:
  """Order and kind of the tasks.

  Raises:
    ValueError: one line, names the key and what to do.
  """
  continual = config.continual
  for key, have in (('scenario', ('class', 'dataset', 'domain')),
                    ('order_rule', tuple(class_orders.RULES)),
                    ('domain_outputs', ('shared', 'separate'))):
    _check_choice(f'continual.{key}', continual[key], have)
  if continual.eval_every_tasks < 0:
    raise ValueError(f'continual.eval_every_tasks={continual.eval_every_tasks} '
                     'must be a number of tasks, or 0 for the default')
  if continual.class_order and continual.rand_seed >= 0:
    raise ValueError(
        'continual.class_order is listed, so continual.rand_seed='
        f'{continual.rand_seed} has no effect; set it to -1')
  _check_class_counts(config)
  _check_scenario(config)
  _check_gaussian(config)


def check_fits(stream: 'TaskStream', *, fixed_steps: bool) -> None:
  """A batch must not be larger than a task (or, dropped, than a test).

  Args:
    stream: a `TaskStream`.
    fixed_steps: a task has as many steps as it should; its images come again
      when they do not suffice.

  Raises:
    ValueError: one line.
  """
  size, name = stream.global_batch_size, stream.dataset_name
  for task in stream.tasks:
    if task.num_examples < size and not fixed_steps:
      raise ValueError(
          f'the global batch of {size} is larger than task {task.index + 1} of '
          f'{name}, which has {task.num_examples} training images; lower '
          'per_device_batch_size')
  for eval_set in stream.eval_sets:
    if not stream.num_eval_batches(eval_set):
      raise ValueError(
          f'eval_drop_remainder=True drops all {eval_set.num_examples} test '
          f'images of {eval_set.name} of {name}: they do not fill a global '
          f'batch of {size}')


def _check_class_counts(config: ConfigDict) -> None:
  continual = config.continual
  first, step = continual.init_cls, continual.inc_cls
  if (first, step) == (0, 0):
    return
  if min(first, step) < 1:
    raise ValueError(
        f'continual.init_cls={first} and continual.inc_cls={step} go together: '
        'classes of the first and of each later task, or both 0')
  if continual.scenario != 'class':
    raise ValueError(
        f'continual.init_cls={first} counts the classes of a first task, which '
        f'continual.scenario={continual.scenario!r} fixes itself; set init_cls '
        'and inc_cls to 0')
  if config.reverse_task:
    raise ValueError(
        'reverse_task=True would make the larger first task of '
        f'continual.init_cls={first} the last; list continual.class_order')


def _check_scenario(config: ConfigDict) -> None:
  continual = config.continual
  if continual.scenario != 'domain' and (
      continual.domain_order or continual.domain_outputs != 'shared'):
    raise ValueError(
        'continual.domain_order and continual.domain_outputs are read only by '
        f"continual.scenario='domain', and it is {continual.scenario!r}")
  if continual.scenario == 'dataset' and continual.class_order:
    raise ValueError(
        "continual.scenario='dataset' keeps the classes of a data set together;"
        ' clear continual.class_order and list the sets in config.dataset')


def _check_gaussian(config: ConfigDict) -> None:
  continual, mode = config.continual, config.gaussian_mode
  _check_choice('gaussian_mode', mode, ('', 'jax_released', 'paper'))
  if not config.gaussian_schedule:
    if mode:
      raise ValueError(f'gaussian_mode={mode!r} is read only with '
                       'gaussian_schedule=True')
    return
  if continual.scenario != 'class' or continual.init_cls:
    raise ValueError(
        'gaussian_schedule=True draws the classes of every task itself; set '
        "continual.scenario='class' and continual.init_cls=0")
  if continual.eval_task_inc:
    raise ValueError('continual.eval_task_inc=True needs tasks at test time, '
                     'and gaussian_schedule=True has none; set it to False')
  if mode == 'paper' and continual.gaussian_steps < 1:
    raise ValueError(f'continual.gaussian_steps={continual.gaussian_steps} '
                     'must be at least 1')
  if mode == 'paper' and config.num_epochs != 1:
    raise ValueError(
        "gaussian_mode='paper' is a single pass of continual.gaussian_steps "
        f'steps per task: set num_epochs=1, not {config.num_epochs}')


def _check_choice(key: str, value: object, have: Collection[object]) -> None:
  if value not in have:
    raise ValueError(f'unknown {key} {value!r}, have {have}')
