# SPDX-License-Identifier: Apache-2.0
"""Token ids of the original's tokenizer, which has its merges beside it."""

import os
import pathlib

from promptcl.models.networks import tokenizer as tokenizer_lib
from tests.parity.fixture import Fixture
from tests.parity.report import Report

_ROOT = pathlib.Path(__file__).parents[3]
_MERGES = 'data/clip_bpe_simple_vocab_16e6.txt.gz'


def run(fixture: Fixture, report: Report) -> None:
  """Names of CIFAR-100 behind sixteen placeholders, and tricky texts."""
  folder = pathlib.Path(os.environ.get('SHARED_DIR', _ROOT / '../shared'))
  tokenizer = tokenizer_lib.load(str(folder / _MERGES))
  blanks = ' '.join(['X'] * 16)
  prompts = [f'{blanks} {name.replace("_", " ")}.'
             for name in fixture.meta['class_names']]
  for name, texts in (('prompts', prompts), ('free', fixture.meta['texts'])):
    report.compare(name, tokenizer_lib.encode(tokenizer, texts), fixture[name])
