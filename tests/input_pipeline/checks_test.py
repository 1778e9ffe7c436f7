# SPDX-License-Identifier: Apache-2.0
"""Settings of a stream that are refused before the data are looked for."""

import pytest

_GAUSSIAN = {'gaussian_schedule': True}


def _continual(**changes):
  return {f'continual.{key}': value for key, value in changes.items()}


@pytest.mark.parametrize('changes, message', [
    (_continual(scenario='task'), "unknown continual.scenario 'task', have"),
    (_continual(order_rule='torch'), "unknown continual.order_rule 'torch'"),
    (_continual(domain_outputs='own'), "unknown continual.domain_outputs"),
    ({'eval_order': 'random'}, "unknown eval_order 'random', have .*shuffled"),
    (_continual(eval_every_tasks=-1), 'eval_every_tasks=-1'),
    (_continual(class_order=(0, 1), rand_seed=3), 'rand_seed=3 has no effect'),
    (_continual(init_cls=5), 'init_cls=5 and continual.inc_cls=0 go together'),
    (_continual(inc_cls=5), 'init_cls=0 and continual.inc_cls=5 go together'),
    (_continual(init_cls=-1, inc_cls=2), 'init_cls=-1'),
    (_continual(init_cls=5, inc_cls=2, scenario='domain'), 'init_cls=5'),
    ({**_continual(init_cls=5, inc_cls=2), 'reverse_task': True},
     'list continual.class_order'),
    (_continual(domain_order=('a',)), "scenario='domain', and it is 'class'"),
    (_continual(domain_outputs='separate'), "scenario='domain', and it is"),
    (_continual(class_order=(1, 0), scenario='dataset'), 'config.dataset'),
    ({'gaussian_mode': 'paper'}, "'paper' is read only with gaussian_sch"),
    ({**_GAUSSIAN, 'gaussian_mode': 'jax'}, "unknown gaussian_mode 'jax'"),
    ({**_GAUSSIAN, **_continual(scenario='domain')}, "scenario='class'"),
    ({**_GAUSSIAN, **_continual(init_cls=5, inc_cls=5)}, 'init_cls=0'),
    ({**_GAUSSIAN, **_continual(eval_task_inc=True)}, 'eval_task_inc=True'),
    ({**_GAUSSIAN, 'gaussian_mode': 'paper'}, 'set num_epochs=1, not 2'),
    ({**_GAUSSIAN, 'gaussian_mode': 'paper', 'num_epochs': 1,
      **_continual(gaussian_steps=0)}, 'gaussian_steps=0'),
])
def test_one_line_before_the_data(build, changes, message):
  with pytest.raises(ValueError, match=message) as error:
    build(dataset='npz:nowhere.npz', **changes)
  assert '\n' not in str(error.value)


def test_the_data_come_next(build):
  with pytest.raises(FileNotFoundError, match='nowhere.npz'):
    build(dataset='npz:nowhere.npz')
