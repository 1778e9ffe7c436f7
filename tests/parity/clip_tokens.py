# Copyright 2026 The JAX Continual Prompting Authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Token ids of the original's tokenizer, which has its merges beside it."""

import os
import pathlib

from models import tokenizer as tokenizer_lib
from tests.parity.fixture import Fixture
from tests.parity.report import Report

_ROOT = pathlib.Path(__file__).parents[2]
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
