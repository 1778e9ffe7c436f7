# SPDX-License-Identifier: Apache-2.0
"""CLIP with learned prompts over the tasks of its port.

  torch_clip.py        the program of a file and one pass at the start values
  torch_clip_tasks.py  training, collection, bases and evaluation
  torch_clip_scores.py the evaluation step over sets of images
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from promptcl.configs import clip_pgp as recipe
from promptcl.models import classifier
from promptcl.models.networks import clip
from promptcl.models.networks import vit
from promptcl.models.parts import base
from promptcl.models.weights import pretrained
from promptcl.train_lib import program as program_lib
from promptcl.train_lib.around import projection
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.startup import startup
from promptcl.train_lib.steps import collection
from promptcl.train_lib.steps import eval_step
from promptcl.train_lib.steps import optimizer as optimizer_lib
from tests.parity import tolerances as tol
from tests.parity.fixture import Fixture
from tests.parity.ports import torch_bridge as bridge
from tests.parity.ports import torch_clip_tasks
from tests.parity.report import Report

_SMALL = ('backbone/cls', 'backbone/embedding/kernel',
          f'backbone/{pretrained.POSITIONS}')
_TABLE = 'backbone/text/token_embedding/embedding'


def run(fixture: Fixture, report: Report) -> None:
  """The file: passes at the start values, then all tasks."""
  programs = {epochs: program(fixture, epochs)
              for epochs in num_epochs(fixture.meta)}
  first = programs[num_epochs(fixture.meta)[0]]
  params = parameters(fixture, first)
  _Passes(fixture, report, first.model, params).run()
  torch_clip_tasks.Tasks(fixture, report, programs, params).run()


def num_epochs(meta: Any) -> tuple[int, ...]:
  """Epochs of each task."""
  sizes = meta['config']
  return (sizes['init_epochs'],) + (sizes['epochs'],) * (sizes['tasks'] - 1)


def program(fixture: Fixture, epochs: int) -> program_lib.Program:
  """The recipe with the sizes of a file; the head has its sentences."""
  config, sizes = expand(fixture.meta, epochs), fixture.meta['config']
  rows = tuple(map(tuple, fixture['class_tokens'].tolist()))
  backbone = clip.Clip(
      patch_size=sizes['patch'], width=sizes['width'], depth=sizes['layers'],
      num_heads=sizes['heads'], mlp_dim=4 * sizes['width'],
      image_size=sizes['img'], traits=clip.TRAITS, joint_width=sizes['out'],
      text_shape=clip.TextShape(
          sizes['twidth'], sizes['tlayers'], sizes['theads'],
          4 * sizes['twidth'], context_length=len(rows[0]),
          vocabulary=len(fixture['vocab_ids'])))
  model, method = classifier.build(config, base.StreamInfo(
      len(rows), config.continual.num_tasks), backbone)
  model = model.clone(head=model.head.clone(ids=rows))
  method = projection.wrap(
      method.with_part(rates=optimizer_lib.later_rates(config)), config)
  return program_lib.Program(
      config, model, method, optimizer_lib.create(
          config, method.transform, method.step_transform),
      None, state_lib.random_params(model, image_size=sizes['img']))


def expand(meta: Any, epochs: int) -> Any:
  """Complete config of a file, for tasks of so many epochs."""
  sizes, config = meta['config'], recipe.get_config()
  config.update(
      num_epochs=epochs, per_device_batch_size=sizes['batch'],
      learning_rate=sizes['init_lr'] * 256 / sizes['batch'],
      later_rate_multipliers=(('.*', sizes['lr'] / sizes['init_lr']),),
      gradient_decay=sizes['init_wd'], later_gradient_decay=sizes['wd'],
      sgd_momentum=meta['momentum'], input_size=sizes['img'])
  config.continual.update(num_tasks=sizes['tasks'],
                          num_classes_per_task=meta['per_task'])
  config.vpt.length = sizes['length']
  config.text.context_tokens = sizes['context_tokens']
  config.pgp.update(sequence_components=sizes['comps'],
                    sequence_epsilon=sizes['eps'])
  return startup.expand(config)


def parameters(fixture: Fixture, program: program_lib.Program
               ) -> dict[str, np.ndarray]:
  """Flat start values under our paths."""
  arrays = bridge.leaves(fixture)
  contexts = [arrays.pop(f'text_prompt_pool.{t}.ctx')
              for t in range(fixture.meta['config']['tasks'])]
  own = {'prompt/tokens': arrays.pop('image_prompt_pool.0.weight'),
         'head/context': np.stack(contexts)}
  like = program_lib.unflatten(program.shapes)['backbone']
  merged = pretrained.merge(arrays, like, source=str(fixture.path))
  return own | state_lib.flatten({'backbone': merged})


class _Passes:
  """Everything that the file has about the start values."""

  def __init__(self, fixture: Fixture, report: Report,
               model: classifier.PromptedClassifier, params: Any):
    self._fixture, self._report = fixture, report
    self._model, self._params = model, params
    self._images = bridge.pictures(fixture['task0/test_images'])
    self._per_task = fixture.meta['per_task']

  def run(self) -> None:
    """All of it."""
    for name, scale in (('no_prompt', 1.0), ('small_embeddings', 0.01)):
      params = {path: leaf * (scale if path in _SMALL else 1.0)
                for path, leaf in self._params.items()}
      self._compare(f'image_features_{name}', self._apply(
          lambda m, x: m.backbone.project(
              m.backbone(x, read=vit.read_class_token).tokens[:, 0]),
          self._images, params=params), tol.FEATURES)
    out = self._apply(lambda m, x: m(
        x, base.Query(), jnp.int32(-1), train=False), self._images)
    self._compare('image_features', out.pre_logits, tol.FEATURES)
    tokens = jax.jit(collection.make_inputs(
        self._model, self._model.prompt.spaces, embedded_query=True))(
            self._params, {}, self._images)['sequence']
    self._compare('tokens_before_prompt', tokens, tol.FEATURES)
    self._compare('encode_text_of_class_tokens', self._read(
        self._fixture['class_tokens']), tol.FEATURES)
    for t, context in enumerate(self._params['head/context']):
      self._text(t, context)
      self._compare(f'logits_task{t}', out.logits[:, self._columns(t)],
                    tol.PORT_LOGITS)
    self._cuts(out.logits)

  def _text(self, t: int, context: np.ndarray) -> None:
    """What the text tower receives and makes of a task's sentences."""
    ids = self._fixture['class_tokens'][self._columns(t)]
    table = self._params[_TABLE]
    self._compare(f'text_embeddings{t}',
                  clip.with_context(jnp.asarray(table[ids]), context))
    self._compare(f'text_features{t}', self._read(ids, context), tol.FEATURES)

  def _cuts(self, logits: jax.Array) -> None:
    """Which logits compete when images of several tasks share a batch."""
    tasks = self._fixture['forward/mixed_task_ids']
    owner = np.arange(logits.shape[1]) // self._per_task
    for name, ids in (('mixed_cil', tasks), ('first_task_cil', 0 * tasks)):
      known = eval_step.known_until(owner, {
          'label': self._per_task * ids, 'mask': np.ones(len(ids))})
      self._compare(name, logits[:, known], tol.PORT_LOGITS)
    own = [row[self._columns(t)] for row, t in zip(logits, tasks, strict=True)]
    self._compare('mixed_til', np.stack(own), tol.PORT_LOGITS)

  def _columns(self, t: int) -> slice:
    return slice(t * self._per_task, (t + 1) * self._per_task)

  def _read(self, ids: np.ndarray, context: np.ndarray | None = None
            ) -> jax.Array:
    return self._apply(lambda m, i, c: m.backbone.encode_text(i, c), ids,
                       context)

  def _apply(self, method: Callable[..., Any], *args: Any,
             params: Any = None) -> Any:
    return jax.jit(lambda p, *a: self._model.apply(p, *a, method=method))(
        state_lib.variables(params or self._params), *args)

  def _compare(self, name: str, got: Any,
               tolerance: tol.Tolerance = tol.EXACT) -> None:
    name = f'forward/{name}'
    self._report.compare(name, got, self._fixture[name], tolerance)
