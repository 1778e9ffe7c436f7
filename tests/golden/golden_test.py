# SPDX-License-Identifier: Apache-2.0
"""A recipe, a preset or a short run that changed shows as a diff here."""

import importlib

import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests.golden import __main__ as command
from tests.golden import recipes
from tests.golden import runs
from tests.torture import comparison

_HOW = ('is not what is written: `python -m tests.golden --write`, then read '
        'the diff')


@pytest.fixture(name='texts', scope='module')
def _texts():
  """Also checks that each recipe can run under each preset."""
  return recipes.texts()


def test_recipes_and_presets_are_what_is_written(texts):
  assert set(texts) == set(recipes.written())
  for path, text in texts.items():
    assert text == (recipes.FOLDER / path).read_text(), f'{path} {_HOW}'


def test_only_what_has_no_such_protocol_is_refused(texts):
  refused = {path: [line for line in text.splitlines() if ' has no ' in line]
             for path, text in texts.items()}
  [line] = refused.pop('presets/jax_v1.txt')
  assert line.strip().startswith('preset jax_v1 has no dualprompt; choose')
  assert not any(refused.values())
  # Otherwise a refusal would be a text like any other.
  for path, text in texts.items():
    for entry in text.splitlines():
      assert ' = ' in entry or entry[-1:] in ',:' or line == entry, path


def test_a_changed_recipe_shows_in_its_text_and_its_paragraphs(
    texts, monkeypatch):
  module = importlib.import_module('promptcl.configs.digits_online_l2p')
  original = module.get_config

  def changed(preset=''):
    config = original(preset)
    config.num_epochs = 7
    return config

  monkeypatch.setattr(module, 'get_config', changed)
  monkeypatch.setattr(recipes, 'RECIPES', {
      'digits_online_l2p': 'digits_online_l2p'})
  monkeypatch.setattr(recipes.presets, 'PRESETS', {'strict': {}})
  found = recipes.texts()
  path = 'recipes/digits_online_l2p.txt'
  assert set(found[path].splitlines()) ^ set(texts[path].splitlines()) == {
      'num_epochs = 7', 'num_epochs = 1'}
  assert 'num_epochs' not in found['presets/strict.txt']


_KEPT = 'task,eval_set,selection,correct,total\n0,0,batch,7,10\n'


@pytest.mark.parametrize('found, share, message', [
    (_KEPT, 0.0, ''), (_KEPT.replace('7', '8'), 0.1, ''),
    (_KEPT.replace('7', '8'), 0.0,
     '1 of 1 counts differ, the first in batch, task 0, set 0: 7 of 10 -> 8 of '
     '10'),
    (_KEPT.replace('7', '9'), 0.1, '7 of 10 -> 9 of 10'),
    (_KEPT.replace('10', '11'), 0.5, '7 of 10 -> 7 of 11'),
    (_KEPT + '1,0,batch,3,10\n', 0.5, 'other evaluations: 1 are kept, 2 were')])
def test_counts_that_differ(found, share, message):
  told = runs.difference(_KEPT, found, share=share)
  assert message in told and bool(told) == bool(message)


@pytest.mark.parametrize('rows, state, message', [
    ('a\nb\n', {}, ''), ('a\nc\n', {}, 'results.csv: b -> c'),
    ('a\n', {}, 'results.csv: b -> None'),
    ('a\nb\n', {'params/w': np.float32([1, np.nextafter(np.float32(2), 3)])},
     'state: params/w differs'),
    ('a\nb\n', {'memory/x': np.ones(1)}, 'state: memory/x is in one of them')])
def test_two_runs_that_differ_in_a_bit(tmp_path, rows, state, message):
  folders = tmp_path / 'then', tmp_path / 'now'
  plain = {'params/w': np.float32([1, 2]), 'step': np.int32(3)}
  for folder, text, more in zip(folders, ('a\nb\n', rows), ({}, state),
                                strict=True):
    with ocp.StandardCheckpointer() as writer:
      writer.save(folder / 'checkpoints/0/state', {**plain, **more})
    (folder / 'results.csv').write_text(text)
  found = comparison.outcome(*folders)
  assert message in found and bool(found) == bool(message)


@pytest.mark.parametrize('added, message', [
    ((), 'event loss/pull of step 1: 0 times -> 1 times'), (('loss/',), ''),
    (('los',), 'event loss of step 1: 1 times -> 0 times')])
def test_events_that_are_new_may_be_left_out(
    monkeypatch, tmp_path, added, message):
  written = {'then': ['loss'], 'now': ['loss', 'loss/pull']}
  monkeypatch.setattr(comparison, 'last_state', lambda folder: {})
  monkeypatch.setattr(comparison, 'events', lambda folder: [
      (1, tag, b'') for tag in written[folder.name]])
  for name in written:
    (tmp_path / name).mkdir()
    (tmp_path / name / 'results.csv').write_text('')
  assert comparison.outcome(
      tmp_path / 'then', tmp_path / 'now', added) == message


def test_a_revision_that_is_none_is_told_in_one_line(capfd):
  assert command.main(['--against', 'no_such_revision', 'digits_l2p']) == 1
  assert capfd.readouterr().err.splitlines()[-1].startswith('error: ')


def test_every_run_has_its_counts():
  for name in runs.RUNS:
    rows = runs.kept(name).splitlines()
    assert rows[0] == _KEPT.splitlines()[0] and len(rows) > 3, name
  assert {path.stem for path in runs.COUNTS.glob('*.csv')} == set(runs.RUNS)


@pytest.mark.slow
def test_a_short_run_counts_what_is_kept(capsys):
  """By the command itself; the other runs are for whoever moves code."""
  assert command.main(['digits_clip_zeroshot']) == 0
  assert capsys.readouterr().out.endswith('nothing differs\n')
