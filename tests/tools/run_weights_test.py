# SPDX-License-Identifier: Apache-2.0
"""The backbone of a run, out of a checkpoint as a run writes it."""

import numpy as np
import pytest

from promptcl.models.weights import families
from promptcl.models.weights import formats
from promptcl.models.weights import pretrained
from promptcl.tools import convert_weights
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.resume import checkpoint
from promptcl.train_lib.resume.checkpoint import ResumePoint
from tests.helpers import fakes


def _save(workdir, config):
  """Checkpoint of a state that moved; returns its trainable leaves."""
  state = fakes.start(config)[4]
  state = state.replace(params={k: v + 1 for k, v in state.params.items()})
  saver = checkpoint.Checkpointer(workdir / 'checkpoints')
  saver.save(ResumePoint(4), state, {})
  saver.close()
  (workdir / 'config.json').write_text(config.to_json_best_effort())
  return state.params


@pytest.mark.parametrize('freeze_part, count', [((), 54), (('embedding',), 51)])
def test_what_trained_and_what_stayed_frozen(freeze_part, count, tmp_path,
                                             capsys):
  config = fakes.config(tmp_path, freeze_part=freeze_part, norm_01=False)
  params = _save(tmp_path / 'run', config)
  output = str(tmp_path / 'backbone.npz')
  assert convert_weights.main([str(tmp_path / 'run'), output]) == 0
  told = capsys.readouterr().out
  assert f'after task 5; {count} of 54 arrays were trained' in told

  like = fakes.backbone_arrays()
  loaded = state_lib.flatten(pretrained.load(
      output, state_lib.variables(like)['params']))
  started = formats.read(config.init_checkpoint)
  for name in like:
    want = params.get(f'backbone/{name}', started[name])
    np.testing.assert_array_equal(loaded[name], want, name)
  assert families.find(output, model_name='DeiT-B_16') == families.Family(
      'original, trained', False, 'dataset')


@pytest.mark.parametrize('changes, message', [
    ({}, 'stayed frozen.*vit.npz'),
    ({'freeze_part': ('embedding',), 'init_checkpoint': 'random'},
     'in no file')])
def test_runs_without_a_whole_backbone(changes, message, tmp_path, capsys):
  config = fakes.config(tmp_path, **changes)
  _save(tmp_path / 'run', config)
  output = tmp_path / 'backbone.npz'
  assert convert_weights.main(
      [str(tmp_path / 'run'), str(output)]) == 1
  error = capsys.readouterr().err
  assert error.count('\n') == 1 and not output.exists()
  for part in message.split('.*'):
    assert part in error
