# SPDX-License-Identifier: Apache-2.0
"""Rows of the table of data sets, against TFDS's own builders."""

import dataclasses
import types

import cv2
import numpy as np
import pytest

from promptcl.input_pipeline.read import datasets
from promptcl.input_pipeline.read import preparation
from promptcl.input_pipeline.read import sources


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
  for key in ('http_proxy', 'https_proxy', 'all_proxy'):
    monkeypatch.setenv(key, 'http://127.0.0.1:9')
    monkeypatch.setenv(key.upper(), 'http://127.0.0.1:9')


def _load(name, folder, fetch=True):
  return datasets.load(types.SimpleNamespace(
      dataset=name, data_dir=str(folder), manual_dir='', split_files=()),
                       fetch=fetch)


def _images(source):
  return np.stack([source.image(i) for i in range(len(source))])


@pytest.mark.parametrize(
    'name', sorted(set(datasets.SPECS) - set(preparation.OWN)))
def test_specs_are_those_of_the_catalogue(name, tmp_path):
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top
  spec = datasets.SPECS[name]
  variants = [f'{spec.builder}/{d}' for d in spec.domains] or [spec.builder]
  for variant in variants:
    features = tfds.builder(variant, data_dir=tmp_path).info.features
    if spec.labels:
      assert max(spec.labels) < features['label'].num_classes
      assert len(set(spec.labels)) == spec.num_classes
      assert sorted(spec.labels) == list(spec.labels)
    else:
      assert features['label'].num_classes == spec.num_classes
    assert isinstance(features['image'], tfds.features.Image)
    if spec.name_feature:
      assert isinstance(features[spec.name_feature], tfds.features.Text)
      assert features['label'].names[:2] == ['0', '1']  # which says nothing
  configs = tfds.builder_cls(spec.builder).builder_configs
  assert set(spec.domains) == set(configs)


def test_labels_of_imagenet_r():
  """Those that the original L2P maps to 0 to 199; two are in its fixtures."""
  labels = datasets.SPECS['imagenet_r'].labels
  assert labels.index(291) == 75 and labels.index(988) == 199
  names = datasets.SPECS['imagenet_r'].class_names
  assert len(set(names)) == 200
  assert (names[75], names[199]) == ('lion', 'acorn')
  assert names[labels.index(980)] == 'volcano'


def test_names_in_a_text_feature(tmp_path):
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top

  class Birds(tfds.core.GeneratorBasedBuilder):
    """Names as in `caltech_birds2011`."""

    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
      return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(
          {'image': tfds.features.Image(shape=(2, 2, 3)),
           'label': tfds.features.ClassLabel(num_classes=3),
           'label_name': tfds.features.Text()}))

    def _split_generators(self, dl_manager):
      return {'train': self._generate_examples()}

    def _generate_examples(self):
      for i, label in enumerate((2, 0, 1, 2)):
        yield i, {'image': np.zeros((2, 2, 3), np.uint8), 'label': label,
                  'label_name': ('wren', 'crow', 'black_tern')[label]}

  builder = Birds(data_dir=tmp_path, file_format='array_record')
  builder.download_and_prepare(
      download_config=tfds.download.DownloadConfig(try_download_gcs=False))
  source = sources.TfdsSource(builder, 'train')
  assert source.names('label_name') == ('wren', 'crow', 'black_tern')
  assert sorted(source.labels) == [0, 1, 2, 2] and source.domains is None


class TestImagenetR:

  @pytest.fixture(scope='class')
  @classmethod
  def folder(cls, tmp_path_factory):
    """Prepared by TFDS's own builder, from an archive it takes as fetched."""
    import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top
    folder = tmp_path_factory.mktemp('imagenet_r')
    with pytest.MonkeyPatch.context() as patch:
      # Checksums are those of the published archive.
      patch.setattr(tfds.download.DownloadManager, 'download_and_extract',
                    lambda self, url: _imagenet_r(folder / 'extracted'))
      patch.setattr(preparation, '_check_reachable', lambda *_: None)
      _load('imagenet_r', folder)
    return folder

  def test_contents(self, folder):
    dataset = _load('imagenet_r', folder, fetch=False)
    assert dataset.num_classes == len(dataset.class_names) == 200
    assert dataset.class_names[:2] == ('goldfish', 'great white shark')
    assert (len(dataset.train), len(dataset.test)) == (24, 6)
    both = np.concatenate([s.labels for s in (dataset.train, dataset.test)])
    np.testing.assert_array_equal(np.bincount(both), [10, 10, *[0] * 197, 10])
    levels = np.concatenate([_images(s)[:, 0, 0, 0]
                             for s in (dataset.train, dataset.test)])
    # Class by class; a JPEG keeps the level of a plain picture but for little.
    assert np.abs(levels - both % 100 * 2.0).max() < 3

  def test_first_four_fifths_are_for_training(self, folder):
    import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top
    dataset = _load('imagenet_r', folder)
    whole = tfds.builder('imagenet_r', data_dir=folder).as_data_source('test')
    stored = [int(example['image'][0, 0, 0]) for example in whole]
    ours = [int(i) for s in (dataset.train, dataset.test)
            for i in _images(s)[:, 0, 0, 0]]
    assert ours == stored

  def test_statistics_are_measured(self, folder):
    dataset = _load('imagenet_r', folder)
    assert dataset.mean is None
    mean, std = dataset.statistics()
    assert mean.shape == (200, 3)
    images = _images(dataset.train) / 255
    np.testing.assert_allclose(mean[7], images.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(std[7], images.std((0, 1, 2)), rtol=1e-5)


def _imagenet_r(folder):
  """Ten pictures of three classes, as the archive unpacks."""
  for label, wnid in ((0, 'n01443537'), (1, 'n01484850'), (199, 'n12267677')):
    for i in range(10):
      path = folder / 'imagenet-r' / wnid / f'art_{i}.jpg'
      path.parent.mkdir(parents=True, exist_ok=True)
      cv2.imwrite(str(path), np.full((8, 8, 3), label % 100 * 2, np.uint8))
  return str(folder)


class TestDomainnet:

  @pytest.fixture(scope='class')
  @classmethod
  def folder(cls, tmp_path_factory):
    """Five of the six domains, prepared by TFDS's own builder."""
    import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top
    folder = tmp_path_factory.mktemp('domainnet')
    lists = {}
    for d, domain in enumerate(datasets.SPECS['domainnet'].domains):
      for split, rows in (('train', ((0, 7), (1, 344))), ('test', ((2, d),))):
        lines = []
        for i, label in rows:
          name = f'{domain}/some_class/{i}.png'
          path = folder / 'pictures' / name
          path.parent.mkdir(parents=True, exist_ok=True)
          cv2.imwrite(str(path), np.full((3, 4 + d, 3), d, np.uint8))
          lines.append(f'{name} {label}')
        path = folder / f'{domain}_{split}.txt'
        path.write_text('\n'.join(lines) + '\n')
        lists[path.name] = str(path)
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(tfds.download.DownloadManager, 'download_and_extract',
                    lambda self, url: str(folder / 'pictures'))
      patch.setattr(
          tfds.download.DownloadManager, 'download',
          lambda self, urls: {k: lists[u.rsplit('/', 1)[1]]
                              for k, u in urls.items()})
      for domain in datasets.SPECS['domainnet'].domains[:-1]:
        tfds.builder(f'domainnet/{domain}', data_dir=folder,
                     file_format='array_record').download_and_prepare()
    return folder

  def test_missing_domain_is_named(self, folder):
    with pytest.raises(FileNotFoundError) as error:
      _load('domainnet', folder, fetch=False)
    assert str(error.value).startswith(
        '1 of the 6 domains of domainnet are not there (sketch); ')
    assert f'doctor domainnet --prepare --data_dir {folder}' in str(error.value)

  def test_cannot_be_fetched(self, folder, monkeypatch):
    with pytest.raises(FileNotFoundError,
                       match='domainnet/sketch is not in .*cannot be reached'):
      _load('domainnet', folder)

  def test_contents(self, folder, monkeypatch):
    spec = datasets.SPECS['domainnet']
    monkeypatch.setitem(datasets.SPECS, 'domainnet', dataclasses.replace(
        spec, domains=spec.domains[:-1]))
    dataset = _load('domainnet', folder, fetch=False)
    assert dataset.domain_names == spec.domains[:-1]
    assert dataset.class_names[344] == 'zigzag'
    assert dataset.train.domains.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert set(dataset.train.labels) == {7, 344}
    assert dataset.test.labels.tolist() == [0, 1, 2, 3, 4]
    assert [dataset.test.image(i).shape for i in (0, 4)] == [
        (3, 4, 3), (3, 8, 3)]
