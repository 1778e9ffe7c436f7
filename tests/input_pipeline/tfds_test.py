# SPDX-License-Identifier: Apache-2.0
"""TFDS data sets, prepared by the real builders without a network."""

import io
import tarfile
import types

import numpy as np
import pytest

from promptcl import input_pipeline
from promptcl.input_pipeline.read import catalogue
from promptcl.input_pipeline.read import datasets
from promptcl.input_pipeline.read import preparation
from tests.input_pipeline import small_data

CIFAR_URL = 'https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz'


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
  for key in ('http_proxy', 'https_proxy', 'all_proxy'):
    monkeypatch.setenv(key, 'http://127.0.0.1:9')
    monkeypatch.setenv(key.upper(), 'http://127.0.0.1:9')


def _few():
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top

  class Few(tfds.core.GeneratorBasedBuilder):
    """Six pictures to learn from and three to test."""

    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
      return self.dataset_info_from_configs(
          features=tfds.features.FeaturesDict({
              'image': tfds.features.Image(shape=(4, 4, 3)),
              'label': tfds.features.ClassLabel(num_classes=3)}))

    @staticmethod
    def pictures(split):
      for i in range(6 if split == 'train' else 3):
        yield i, {'image': np.full((4, 4, 3), 9 * i, np.uint8), 'label': i % 3}

    def _split_generators(self, dl_manager):
      return {split: self.pictures(split) for split in ('train', 'test')}

    def _generate_examples(self):
      """Unused: `_split_generators` makes the generators itself."""

  return Few


@pytest.fixture(name='few_class', scope='module')
def _few_class():
  return _few()


@pytest.fixture
def few(few_class, monkeypatch):
  """A builder of the project's own, under the name 'few'."""
  monkeypatch.setattr(small_data, 'Few', few_class, raising=False)
  monkeypatch.setitem(preparation.OWN, 'few', (small_data.__name__, 'Few'))
  monkeypatch.setitem(datasets.SPECS, 'few', catalogue.DatasetSpec('few', 3))
  return few_class


@pytest.fixture(scope='module')
def cifar_records():
  """uint8 [N, 3074]: coarse label, label, picture [3, 32, 32]."""
  rng = np.random.default_rng(0)
  records = {}
  for split, count in (('train', 300), ('test', 200)):
    records[split] = rng.integers(0, 256, (count, 3074), np.uint8)
    records[split][:, 1] = np.arange(count) % 100
    records[split][:, 0] = records[split][:, 1] // 5
  return records


@pytest.fixture(scope='module')
def cifar_dir(cifar_records, tmp_path_factory):
  """A TFDS folder whose archive has been fetched already."""
  folder = tmp_path_factory.mktemp('cifar100')
  _put_archive(folder / 'downloads', {
      'train.bin': cifar_records['train'].tobytes(),
      'test.bin': cifar_records['test'].tobytes(),
      'fine_label_names.txt': _lines('fine', 100),
      'coarse_label_names.txt': _lines('coarse', 20)})
  return folder


def _load(name, folder, fetch=True):
  return datasets.load(types.SimpleNamespace(
      dataset=name, data_dir=str(folder), manual_dir='', split_files=()),
                       fetch=fetch)


def _images(source):
  return np.stack([source.image(i) for i in range(len(source))])


class TestFew:
  """What holds for every builder, on one that writes in no time."""

  def test_second_start_writes_nothing(self, few, tmp_path, monkeypatch):
    def state():
      return {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*')}
    assert len(_load('few', tmp_path).train) == 6
    before = state()
    monkeypatch.setattr(few, 'pictures', None)
    _load('few', tmp_path)
    assert state() == before

  def test_preparing_is_reproducible(self, few, tmp_path):
    one, two = (_load('few', tmp_path / name) for name in ('one', 'two'))
    np.testing.assert_array_equal(one.train.labels, two.train.labels)
    np.testing.assert_array_equal(_images(one.test), _images(two.test))

  def test_a_failed_attempt_leaves_no_data_set(
      self, few, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
      patch.setattr(few, 'pictures', None)
      with pytest.raises(FileNotFoundError, match='few is not in') as error:
        _load('few', tmp_path)
    assert '\n' not in str(error.value)
    assert not (tmp_path / 'few/1.0.0').exists()
    assert len(_load('few', tmp_path).train) == 6

  def test_two_processes_at_once(self, few, tmp_path, monkeypatch):
    """The other one finishes while this one is still writing."""
    pictures = few.pictures

    def meanwhile(split):
      monkeypatch.setattr(few, 'pictures', staticmethod(pictures))
      _load('few', tmp_path)
      return pictures(split)

    monkeypatch.setattr(few, 'pictures', staticmethod(meanwhile))
    assert len(_load('few', tmp_path).train) == 6
    assert [p.name for p in (tmp_path / 'few').iterdir()] == ['1.0.0']

  def test_folder_that_cannot_be_made(self, few, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(FileNotFoundError, match='cannot be prepared there'):
      _load('few', tmp_path / 'file')

  def test_stored_without_random_access(self, few, tmp_path):
    few(data_dir=tmp_path, file_format='tfrecord').download_and_prepare()
    with pytest.raises(ValueError, match='stored as tfrecord.*array_record'):
      _load('few', tmp_path)


class TestCifar100:

  def test_contents(self, cifar_dir, cifar_records):
    dataset = _load('cifar100', cifar_dir)
    assert dataset.class_names[:2] == ('fine_0', 'fine_1')
    assert dataset.num_classes == len(dataset.class_names) == 100
    for split in ('train', 'test'):
      source = getattr(dataset, split)
      pictures = {r[2:].reshape(3, 32, 32).transpose(1, 2, 0).tobytes(): r[1]
                  for r in cifar_records[split]}
      assert len(source) == len(pictures)
      for i, label in enumerate(source.labels):
        assert pictures.pop(source.image(i).tobytes()) == label

  def test_stream(self, make_config, cifar_dir):
    config = make_config(
        dataset='cifar100', data_dir=str(cifar_dir),
        **{'continual.num_tasks': 10, 'continual.num_classes_per_task': 10})
    stream = input_pipeline.build(config, global_batch_size=8)
    assert [t.num_examples for t in stream.tasks] == [30] * 10
    assert [e.num_examples for e in stream.eval_sets] == [20] * 10
    for batch in stream.batches(stream.tasks[3]):
      assert stream.tasks[3].class_mask[batch['label']].all()


def _lines(name, count):
  return ''.join(f'{name}_{i}\n' for i in range(count)).encode()


def _put_archive(downloads, files):
  """Writes CIFAR-100's archive, with other contents, as TFDS keeps it."""
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top
  download = tfds.core.download
  checksums, resource = download.checksums, download.resource
  info = checksums.get_all_url_infos()[CIFAR_URL]
  path = downloads / resource.get_dl_fname(CIFAR_URL, info.checksum)
  downloads.mkdir()
  with tarfile.open(path, 'w:gz') as tar:
    for name, content in files.items():
      member = tarfile.TarInfo(f'cifar-100-binary/{name}')
      member.size = len(content)
      tar.addfile(member, io.BytesIO(content))
  resource.write_info_file(
      url=CIFAR_URL, path=path, dataset_name='cifar100',
      original_fname='cifar-100-binary.tar.gz', url_info=info)


def test_no_network_is_told_at_once(tmp_path, monkeypatch):
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top
  # TFDS would try for minutes.
  monkeypatch.setattr(tfds.image_classification.Cifar100,
                      'download_and_prepare', None)
  (tmp_path / 'downloads/of_something_else.INFO').mkdir(parents=True)
  with pytest.raises(FileNotFoundError) as error:
    _load('cifar100', tmp_path)
  message = str(error.value)
  assert '\n' not in message and 'cannot be reached' in message
  assert (f'tfds.builder("cifar100", data_dir="{tmp_path}", '
          'file_format="array_record").download_and_prepare()') in message


def test_tensorflow_sees_no_accelerator(few, tmp_path):
  import tensorflow as tf  # pylint: disable=g-import-not-at-top
  _load('few', tmp_path)
  assert not tf.config.get_visible_devices('GPU')
  assert not tf.config.get_visible_devices('TPU')
