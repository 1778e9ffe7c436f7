# SPDX-License-Identifier: Apache-2.0
"""Pretrained files into models of several kinds and resolutions.

Deviation of ours, on purpose: with a pool and another resolution the original
reserves positions for prompts that the model does not have and so yields a
table of the wrong length.  Ours has the right length; it is compared with the
table that our loader gives a model without a pool, which other cases compare
with recorded numbers.
"""

from collections.abc import Mapping
import pathlib
import tempfile
from typing import Any

import jax
import numpy as np

from promptcl.models.weights import pretrained
from promptcl.train_lib import program as program_lib
from promptcl.train_lib.core import state as state_lib
from tests.parity import bridge
from tests.parity import tolerances as tol
from tests.parity.fixture import Fixture
from tests.parity.report import Report

_POSITIONS = f'backbone/{pretrained.POSITIONS}'
_NO_PROMPTS = {'config': {'use_e_prompt': False, 'use_g_prompt': False,
                          'vit_classifier': 'token'}}


def run(fixture: Fixture, report: Report) -> None:
  """Every case of the file."""
  checkpoint = fixture.under('pretrained')
  for name, case in fixture.cases().items():
    prefix = f'case/{name}'
    positions = fixture[f'{prefix}/pretrained_pos_embedding']
    arrays = {**checkpoint, pretrained.POSITIONS: positions}
    with tempfile.TemporaryDirectory() as folder:
      path = str(pathlib.Path(folder, 'pretrained.npz'))
      np.savez(path, **arrays)
      _case(fixture, report, prefix, case, arrays, path)


def _case(fixture: Fixture, report: Report, prefix: str,
          case: Mapping[str, Any], arrays: Mapping[str, np.ndarray],
          path: str) -> None:
  case = _NO_PROMPTS if case.get('plain_vit') else case
  image_size = fixture.cases()[prefix.removeprefix('case/')].get('image_size')
  init = fixture.under(f'{prefix}/init')
  program = bridge.program(
      fixture.meta, bridge.expand(fixture.meta, case), image_size=image_size,
      num_classes=init['head/bias'].shape[-1])
  loaded, untouched = _load(program, path, init, image_size)
  report.check(f'{prefix}: fresh leaves', untouched,
               'head and prompts are those of a fresh model')

  out = fixture.under(f'{prefix}/out')
  report.compare(f'{prefix}/out/leaf_count', len(loaded),
                 out['leaf_count'])
  _positions(fixture, report, prefix, path, loaded[_POSITIONS],
             out['pos_embedding'], image_size)
  want = {leaf: out[leaf] for leaf in out if leaf not in (
      'leaf_count', 'pos_embedding')}
  report.compare_tree(f'{prefix}/out/*', {
      leaf: array for leaf, array in loaded.items()
      if not leaf.startswith('backbone/')}, want,
                      through=lambda leaves: bridge.params(
                          leaves, program.config))
  kept = pretrained.canonical(arrays)
  kept.pop(pretrained.POSITIONS)
  report.compare_tree(
      f'{prefix}: backbone leaves as in the checkpoint',
      {leaf: a for leaf, a in loaded.items()
       if leaf.startswith('backbone/') and leaf != _POSITIONS},
      {bridge.our_path(leaf): a for leaf, a in kept.items()})


def _load(program: program_lib.Program, path: str,
          init: Mapping[str, np.ndarray], image_size: int | None
          ) -> tuple[dict[str, np.ndarray], bool]:
  """The model's leaves after loading `path`.

  Returns:
    Flat parameters with the recorded fresh leaves `init` in place of those
    that we draw; whether ours survived the loading.
  """
  like = {leaf.removeprefix('backbone/'): shape for leaf, shape
          in program.shapes.items() if leaf.startswith('backbone/')}
  weights = pretrained.load(path, program_lib.unflatten(like))
  image_size = image_size or program.model.backbone.image_size
  loaded = state_lib.initial_params(
      state_lib.random_params(program.model, image_size=image_size), weights,
      seed=0)
  drawn = _drawn(program.model, image_size)
  untouched = all(np.array_equal(loaded[k], v) for k, v in drawn.items())
  recorded = bridge.params(init, program.config)
  return {**loaded, **recorded}, untouched and drawn.keys() == recorded.keys()


def _drawn(model: Any, image_size: int) -> dict[str, np.ndarray]:
  """Leaves of prompt and head of a fresh model."""
  whole = state_lib.random_params(model, image_size=image_size)

  def init(rng):
    return {path: leaf for path, leaf in whole(rng).items()
            if not path.startswith('backbone/')}

  return jax.jit(init)(jax.random.key(0))


def _positions(fixture: Fixture, report: Report, prefix: str, path: str,
               got: np.ndarray, recorded: np.ndarray,
               image_size: int | None) -> None:
  grid = (image_size or fixture.meta['vit']['image_size']) // (
      fixture.meta['vit']['patch_size'])
  if recorded.shape[1] == 1 + grid * grid:
    report.compare(f'{prefix}/out/pos_embedding', got, recorded, tol.METRIC)
    return
  plain = bridge.program(
      fixture.meta, bridge.expand(fixture.meta, _NO_PROMPTS),
      image_size=image_size, num_classes=1)
  want = _load(plain, path, {}, image_size)[0][_POSITIONS]
  report.compare(
      f'{prefix}: pos_embedding without pool', got, want,
      remark='DEVIATION on purpose: the original makes '
      f'{recorded.shape[1]} rows for {1 + grid * grid} tokens')
  report.note(f'{prefix}/out/pos_embedding', 'its length is a defect of the '
              'original; see the line above')
