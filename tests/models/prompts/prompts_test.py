# SPDX-License-Identifier: Apache-2.0
"""Methods are found by the name of their file."""

import importlib
import types

import pytest

from promptcl.models import prompts
from promptcl.models.networks import vit
from promptcl.models.parts import base

BACKBONE = vit.create('testing', image_size=8)


def test_what_is_available():
  assert {'dualprompt', 'l2p', 'none'} <= set(prompts.available())
  assert not {'base', 'matching', 'prompt_pool'} & set(prompts.available())


def test_every_method_file_offers_build():
  for name in prompts.available():
    module = importlib.import_module(f'promptcl.models.prompts.{name}')
    assert callable(module.build)


def test_an_unknown_method_lists_what_there_is():
  config = types.SimpleNamespace(method='l3p')
  with pytest.raises(ValueError, match="'l3p'.*l2p"):
    prompts.build(config, BACKBONE, None)


def test_no_prompts_at_all():
  method = prompts.build(
      types.SimpleNamespace(method='none'), BACKBONE, None)
  assert method.prompt.query_needs == ()
  assert not method.prompt.votes
  assert method.loss_weights == {}
  assert method.prompt.select(
      base.Query(), 0, train=True).indices is None
  state = object()
  assert method.begin_task(state, 1, None) is state
  assert method.end_task(state, 1, None) is state
