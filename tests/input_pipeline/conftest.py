# SPDX-License-Identifier: Apache-2.0
"""A tiny data set whose pictures say which example they are."""

import dataclasses
import hashlib
import importlib
import types

import numpy as np
import pytest

from promptcl import input_pipeline
from promptcl.configs import base
from promptcl.input_pipeline.read import datasets
from promptcl.input_pipeline.read import preparation
from tests.input_pipeline import small_data

NUM_CLASSES = 6
TRAIN_PER_CLASS = 5
TEST_PER_CLASS = 4


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


def _builder(name):
  module, class_name = preparation.OWN[name]
  return getattr(importlib.import_module(module), class_name)


@pytest.fixture
def publish(monkeypatch):
  """Lets a builder expect an archive of these bytes, at some address."""
  def publish(name, content, url='http://127.0.0.1:9/gone', checksum=None):
    builder = _builder(name)
    md5 = f'md5:{hashlib.md5(content).hexdigest()}'
    monkeypatch.setattr(builder, 'ARCHIVE', dataclasses.replace(
        builder.ARCHIVE, url=url, size=len(content),
        checksum=md5 if checksum is None else checksum))
  return publish


@pytest.fixture
def load_own(tmp_path):
  """Loads a data set with folders of this test."""
  def load(name, fetch=True):
    return datasets.load(types.SimpleNamespace(
        dataset=name, data_dir=str(tmp_path / 'tfds'), split_files=(),
        manual_dir=str(tmp_path / 'manual')), fetch=fetch)
  return load


@pytest.fixture
def put_by_hand(tmp_path):
  """Puts an archive into manual_dir, under its published name."""
  def put(name, content):
    (tmp_path / 'manual').mkdir(exist_ok=True)
    path = tmp_path / 'manual' / _builder(name).ARCHIVE.filename
    path.write_bytes(content)
    return path
  return put


@pytest.fixture
def by_hand(publish, put_by_hand, load_own):
  """Loads a data set from an archive of these files in manual_dir."""
  def by_hand(name, files):
    content = small_data.MAKERS[name][1](files)
    publish(name, content)
    put_by_hand(name, content)
    return load_own(name)
  return by_hand


@pytest.fixture
def pets(tmp_path):
  """Two classes in two domains, with train/ and test/; the level is the row."""
  root = tmp_path / 'pets'
  for split, count in (('train', 3), ('test', 2)):
    for domain in ('photo', 'sketch'):
      for label in ('dog', 'cat'):
        for i in range(count):
          path = root / split / domain / label / f'{i}.png'
          small_data.write_picture(path, i)
  return root


@pytest.fixture
def plain(tmp_path):
  """Three classes of 10, 5 and 2 pictures, in no order."""
  root = tmp_path / 'plain'
  for label, count in (('b', 5), ('a', 10), ('c', 2)):
    for i in range(count):
      small_data.write_picture(root / label / f'{i}.jpg', 10 * i)
  return root


@pytest.fixture
def build_replay(make_config):
  """A `ReplayStream`; 4 steps a task of 4 new pictures on 2 devices."""
  def make(*, devices=2, process_index=0, process_count=1, **changes):
    small = {'per_device_batch_size': 2, 'replay.capacity': 12,
             'replay.batch_size': 3, 'data_threads': 0, 'seed': 11}
    config = make_config(**{**small, **changes})
    stream = input_pipeline.build(
        config, global_batch_size=config.per_device_batch_size * devices,
        process_index=process_index, process_count=process_count)
    return input_pipeline.ReplayStream(config, stream)
  return make
