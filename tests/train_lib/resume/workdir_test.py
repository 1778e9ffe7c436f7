# SPDX-License-Identifier: Apache-2.0
"""Whose a workdir is."""

import json

import pytest

from promptcl.train_lib.resume import checkpoint
from promptcl.train_lib.resume import workdir as workdir_lib


def _claim(folder, **config):
  workdir_lib.claim(str(folder), json.dumps(config))


def test_a_workdir_of_another_config_is_refused_and_kept(tmp_path):
  _claim(tmp_path, seed=1, data_threads=4)
  _claim(tmp_path, data_threads=8, seed=1)  # may change between two starts
  with pytest.raises(ValueError, match='seed: 1 -> 2'):
    _claim(tmp_path, seed=2, data_threads=8)
  assert '"seed": 1' in (tmp_path / 'config.json').read_text()


def test_the_refusal_lists_all_that_differs_in_one_line(tmp_path):
  _claim(tmp_path, seed=42, prompt={'size': 10, 'layers': [0, 1]})
  with pytest.raises(ValueError) as error:
    _claim(tmp_path, prompt={'size': 20, 'layers': [0, 1]}, lr=.1)
  message = str(error.value)
  assert '\n' not in message
  assert ('lr: (absent) -> 0.1; prompt.size: 10 -> 20; seed: 42 -> (absent)'
          in message)


def test_checkpoints_of_nobody_knows_whom_are_refused(tmp_path):
  _claim(tmp_path, seed=1)
  (tmp_path / workdir_lib.CHECKPOINTS).mkdir()
  _claim(tmp_path, seed=1)
  (tmp_path / 'config.json').unlink()
  with pytest.raises(ValueError, match='no config.json'):
    _claim(tmp_path, seed=1)
  assert not (tmp_path / 'config.json').exists()


def test_config_differences_tell_types_apart():
  assert checkpoint.config_differences('{"a": 1, "b": "x"}',
                                       '{"a": true, "b": "x"}') == [
                                           'a: 1 -> true']
  assert checkpoint.config_differences('{"a": [1]}', '{"a": [1]}') == []
