# SPDX-License-Identifier: Apache-2.0
"""Training and collection of CLIP with learned prompts, task by task."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from promptcl.models.heads import sentence_head
from promptcl.train_lib import probe as probe_lib
from promptcl.train_lib import program as program_lib
from promptcl.train_lib import train
from promptcl.train_lib.around import projection
from promptcl.train_lib.around import subspace
from promptcl.train_lib.core import parallel
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.steps import eval_step
from promptcl.train_lib.steps import optimizer as optimizer_lib
from promptcl.train_lib.steps import train_step as steps
from tests.parity import observation
from tests.parity import tolerances as tol
from tests.parity.fixture import Fixture
from tests.parity.ports import torch_bridge as bridge
from tests.parity.ports import torch_clip_scores
from tests.parity.ports import torch_pgp_steps as steps_lib
from tests.parity.report import Report

_PROMPT = 'prompt/tokens'
_BATCHES = 2  # of each epoch
_TOLERANCE = {
    'lr': tol.RATE, 'logits': tol.PORT_LOGITS, 'loss': tol.PORT_LOSS,
    'grad_image': tol.GRADIENT, 'grad_image_projected': tol.GRADIENT,
    'grad_ctx': tol.GRADIENT, 'image_prompt': tol.PORT_PARAMS,
    'ctx': tol.PORT_PARAMS, 'scores_images': tol.RANDOM_SCORES,
    'scores_prompt': tol.SCORES, 'S': tol.RANDOM_SCORES}


class Tasks:
  """The tasks of a file, in the order of the original."""

  def __init__(self, fixture: Fixture, report: Report,
               programs: Mapping[int, program_lib.Program],
               params: Mapping[str, np.ndarray]):
    """`programs` by number of epochs; they differ in nothing else."""
    self._fixture, self._report = fixture, report
    self._meta, self._sizes = fixture.meta, fixture.meta['config']
    self._programs = programs
    self._program = program = programs[self._sizes['init_epochs']]
    frozen, trainable = program.split(params)
    self._state = jax.tree.map(np.asarray, state_lib.create(
        trainable, program.method, program.optimizer))
    self._devices = jax.local_devices()[:1]
    self._frozen = parallel.replicate(frozen, self._devices)
    self._owner = np.arange(
        len(fixture['class_tokens'])) // self._meta['per_task']
    self._stream = _Stream(fixture, self._owner)
    self._probe = probe_lib.Probe(
        program, self._stream, self._frozen, self._devices)
    self._scoring = torch_clip_scores.Scoring(
        program, self._frozen, self._devices, self._owner,
        self._sizes['batch'])
    self._compiled: dict[Any, Any] = {}

  def run(self) -> None:
    """Trains, collects, grows and evaluates task after task."""
    for task in self._stream.tasks:
      epochs = self._sizes['epochs' if task.index else 'init_epochs']
      self._program, name = self._programs[epochs], f'task{task.index}'
      probe = self._probe.at(task)
      self._between(train.begin_task, task, probe)
      if task.index:
        self._projector(f'task{task.index - 1}/projection_after', 'active')
      before, first_step = self._state.params, int(self._state.step)
      for i in range(epochs * _BATCHES):
        self._train(task, i, first_step)
      self._contexts(task.index, before)
      self._collected(probe, name)
      self._between(train.end_task, task, probe)
      self._projector(f'{name}/projection_after', 'known')
      want = self._fixture[f'{name}/basis']
      self._report.compare(f'{name}/rank', self._basis['rank'],
                           np.int32(want.shape[1]))
      self._projector(f'{name}/basis', 'known', bridge.products)
      self._evaluate(task.index)

  def _between(self, hook: Any, task: Any, probe: probe_lib.Probe) -> None:
    """Runs a hook of the training loop, which wants replicated state."""
    self._state = parallel.unreplicate(hook(
        self._program, parallel.replicate(self._state, self._devices), task,
        probe))

  @property
  def _basis(self) -> Mapping[str, np.ndarray]:
    [basis] = self._state.memory['pgp'].values()
    return basis

  def _projector(self, name: str, part: str,
                 through: Any = lambda want: want) -> None:
    """Compares F F^T of a part of the memory."""
    basis = self._basis[part]
    self._report.compare(
        name, basis @ basis.T, self._fixture[name], tol.PROJECTION,
        through=through, remark=f'F F^T, {part}')

  def _train(self, task: Any, i: int, first_step: int) -> None:
    """Compares a step, link by link."""
    name, data = f'task{task.index}/step{i}', (
        f'task{task.index}/batch{i % _BATCHES}')
    images = bridge.pictures(self._fixture[f'{data}/images'])
    key = self._program.config.num_epochs, len(images)
    if key not in self._compiled:
      self._compiled[key] = parallel.pmap(
          make_step(self._program, self._sizes['batch']),
          in_axes=(0, 0, 0, None), devices=self._devices)
    info = steps.TaskInfo.create(
        task.index, task.class_mask, first_step=first_step,
        steps_per_epoch=_BATCHES)
    seen, self._state = parallel.unreplicate(self._compiled[key](
        parallel.replicate(self._state, self._devices), self._frozen,
        parallel.shard({'image': images, 'label': self._fixture[
            f'{data}/labels']}, self._devices), info))
    params, own = self._state.params, task.index
    seen |= {'logits': seen['logits'][:, task.class_mask],
             'grad_ctx': seen['grad_ctx'][own], 'image_prompt': params[_PROMPT],
             'ctx': params[sentence_head.CONTEXT][own]}
    for array, got in seen.items():
      self._report.compare(f'{name}/{array}', got,
                           self._fixture[f'{name}/{array}'], _TOLERANCE[array])

  def _contexts(self, t: int, before: Mapping[str, np.ndarray]) -> None:
    """All contexts after a task; those of others have not moved a bit."""
    now, old = (params[sentence_head.CONTEXT]
                for params in (self._state.params, before))
    for j, context in enumerate(now):
      name = f'task{t}/ctx_after/{j}'
      self._report.compare(name, context, self._fixture[name],
                           tol.PORT_PARAMS)
    self._report.check(f'task{t}/ctx_after/*', all(
        np.array_equal(now[j], old[j]) == (j != t) for j in range(len(now))),
                       'only the own one moved')

  def _collected(self, probe: probe_lib.Probe, name: str) -> None:
    """Scores of the memory images and of the prompt."""
    inputs = probe.inputs(
        self._state, projection.protected(self._program.model.prompt),
        count=self._sizes['width'], augment=True, embedded_query=True)
    count = self._meta['components']
    got = {'scores_images': subspace.scores(inputs['sequence'], count),
           'scores_prompt': subspace.scores(
               self._state.params[_PROMPT].T, count)}
    got['S'] = got['scores_images'] + got['scores_prompt']
    for array, value in got.items():
      self._report.compare(f'{name}/{array}', value,
                           self._fixture[f'{name}/{array}'], _TOLERANCE[array])

  def _evaluate(self, t: int) -> None:
    """Both evaluations of the original over the test images so far."""
    images, labels = (np.concatenate([
        self._fixture[f'task{j}/test_{part}'] for j in range(t + 1)])
                      for part in ('images', 'labels'))
    images, name = bridge.pictures(images), f'task{t}'
    logits, known = self._scoring.logits(self._state, images, labels)
    self._report.compare(f'{name}/eval_all_logits', logits,
                         self._fixture[f'{name}/eval_all_logits'],
                         tol.PORT_LOGITS)
    own = self._owner == self._owner[labels][:, None]
    right = {'port_cil': self._scoring.right(self._state, images, labels)[
        eval_step.UNTIL_OWN], 'til': sum(self._scoring.right(
            self._state, images[rows], labels[rows], j)['per_sample_task_inc']
            for j in range(t + 1) for rows in [self._owner[labels] == j])}
    for kind, allowed in (('port_cil', known), ('til', own)):
      chosen = np.argmax(np.where(allowed, logits, -np.inf), axis=1)
      got = {'predictions': chosen, 'labels': labels,
             'top1': _percent(right[kind] / len(labels)),
             'groups': [_percent(np.mean((chosen == labels)[
                 self._owner[labels] == j])) for j in range(t + 1)]}
      for array, value in got.items():
        path = f'{name}/eval_{kind}/{array}'
        self._report.compare(path, value, self._fixture[path], (
            tol.TOKENS if array in ('top1', 'groups') else tol.EXACT))


def make_step(program: program_lib.Program, batch_size: int) -> Any:
  """-> `step(state, frozen, batch, task)`: what is recorded, and the state."""
  config, model, method = program.config, program.model, program.method

  def step(state, frozen, batch, task):
    found, (after, rate) = observation.train_step(
        config, model, method, program.optimizer, metrics=_Rate,
        global_batch_size=batch_size)(state, frozen, batch, task)
    grads = found['grads']
    projected, _ = method.transform.update(
        grads, method.transform.init(grads), memory=state.memory)
    rates = optimizer_lib.task_rates(method.rates, [_PROMPT], task)
    return dict(
        lr=rate * rates[_PROMPT], logits=found['logits'],
        loss=found['loss'], grad_image=grads[_PROMPT],
        grad_image_projected=projected[_PROMPT],
        grad_ctx=grads[sentence_head.CONTEXT]), after

  return step


class _Rate:
  """Stands where the metrics of a step are made: the learning rate alone."""

  @classmethod
  def gather_from_model_output(cls, *, learning_rate: Any, **unused: Any
                               ) -> Any:
    del unused
    return learning_rate


def _percent(share: float) -> np.float32:
  return np.float32(round(100 * float(share), 2))


class _Stream:
  """The recorded tasks with their memory images, as the probe wants them."""

  def __init__(self, fixture: Fixture, owner: np.ndarray):
    self._fixture = fixture
    self.tasks = tuple(
        steps_lib.Task(t, owner == t,
                       len(fixture[f'task{t}/memory_images']))
        for t in range(fixture.meta['config']['tasks']))

  def drawn_batches(self, task: Any, count: int, *, augment: bool):
    """All of them at once; they are augmented already."""
    del augment
    images = self._fixture[f'task{task.index}/memory_images']
    images = bridge.pictures(images)[:count]
    yield {'image': images, 'mask': np.ones(len(images), np.float32)}
