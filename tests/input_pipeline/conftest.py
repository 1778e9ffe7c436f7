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
"""A tiny data set whose pictures say which example they are."""

import os
import pathlib

import numpy as np
import pytest

from configs import base
import input_pipeline

NUM_CLASSES = 6
TRAIN_PER_CLASS = 5
TEST_PER_CLASS = 4


@pytest.fixture
def shared():
  """Folder with the parity fixtures and the real data, or a skip."""
  default = pathlib.Path(__file__).resolve().parents[2] / '../shared'
  folder = pathlib.Path(os.environ.get('SHARED_DIR', default))
  if not folder.is_dir():
    pytest.skip(f'no folder {folder} with reference data (set SHARED_DIR)')
  return folder


@pytest.fixture
def arrays():
  """Contents of an .npz data set, rows shuffled.

  Every picture has one colour: (row of its split, label, 7), which no crop,
  flip or resize changes.
  """
  rng = np.random.default_rng(0)
  content = {}
  for split, count in (('train', TRAIN_PER_CLASS), ('test', TEST_PER_CLASS)):
    labels = rng.permutation(np.repeat(np.arange(NUM_CLASSES), count))
    images = np.full((labels.size, 5, 4, 3), 7, np.uint8)
    images[..., 0] = np.arange(labels.size)[:, None, None]
    images[..., 1] = labels[:, None, None]
    content |= {f'{split}_images': images,
                f'{split}_labels': labels.astype(np.int32)}
  content['class_names'] = np.array([f'class {c}' for c in range(NUM_CLASSES)])
  return content


@pytest.fixture
def npz(tmp_path, arrays):
  """Writes an .npz data set, with some arrays replaced; gives its name."""
  def write(**changes):
    path = tmp_path / 'data.npz'
    content = {key: value for key, value in (arrays | changes).items()
               if value is not None}
    np.savez(path, **content)
    return f'npz:{path}'
  return write


@pytest.fixture
def make_config(npz):
  """A small configuration; keywords replace keys, 'continual.x' included."""
  def make(**changes):
    config = base.get_config()
    small = {'dataset': changes.pop('dataset', None) or npz(),
             'input_size': 6, 'resize_size': 8, 'num_epochs': 2,
             'data_threads': 2, 'continual.num_tasks': 3,
             'continual.num_classes_per_task': 2, 'continual.rand_seed': -1}
    config.update_from_flattened_dict(small | changes)
    return config
  return make


@pytest.fixture
def build(make_config):
  def make(*, global_batch_size=4, process_index=0, process_count=1, **changes):
    return input_pipeline.build(
        make_config(**changes), global_batch_size=global_batch_size,
        process_index=process_index, process_count=process_count)
  return make


@pytest.fixture
def noise(npz, arrays):
  """A data set on which every crop looks different."""
  rng = np.random.default_rng(1)
  shape = arrays['train_images'].shape
  return npz(train_images=rng.integers(0, 256, shape, np.uint8))
