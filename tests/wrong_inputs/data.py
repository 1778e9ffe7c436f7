# SPDX-License-Identifier: Apache-2.0
"""Wrong data."""

import numpy as np

from tests.input_pipeline import small_data
from tests.wrong_inputs.row import cut
from tests.wrong_inputs.row import keys
from tests.wrong_inputs.row import replaced
from tests.wrong_inputs.row import Row
from tests.wrong_inputs.row import setting
from tests.wrong_inputs.row import write

_OBJECTS = np.array([{}], object)


def _pictures(spoil):
  """Six classes in train/ and test/, and then something wrong."""
  def make(folder):
    root = folder / 'pictures'
    for split, count in (('train', 16), ('test', 2)):
      for label in range(6):
        for i in range(count):
          small_data.write_picture(root / f'{split}/c{label}/{i}.png', label)
    spoil(root)

  return make


def _row(what, line, spoil, changes=''):
  return Row(what, keys(f'dataset=folder:pictures {changes}'), line,
             _pictures(spoil))


def _removed(root):
  for path in (root / 'train/c3').iterdir():
    path.unlink()


def _no_test(root):
  (root / 'test').rename(root.parent / 'elsewhere')


def _half_domain(root):
  for domain, labels in (('art', range(6)), ('photo', range(5))):
    for label in labels:
      for i in range(2):
        small_data.write_picture(
            root.parent / f'domains/{domain}/c{label}/{i}.png')


NPZ = (
    setting('a data set without a name', 'dataset=',
            "dataset='' must name every data set once, with commas between"),
    setting('a name that does not exist', 'dataset=cifar1000',
            "unknown data set 'cifar1000', have DATASETS, npz:PATH and "
            'folder:PATH'),
    setting('a path without its kind', 'dataset=./data.npz',
            "unknown data set './data.npz', have DATASETS, npz:PATH and "
            'folder:PATH'),
    setting('no path', 'dataset=npz:',
            "dataset='npz:' lacks the path after npz:"),
    setting('a file that is not there', 'dataset=npz:~no-such-user/data.npz',
            'no file ~no-such-user/data.npz '
            "(dataset='npz:~no-such-user/data.npz')"),
    setting('a pattern of names', "dataset=npz:*.npz",
            "no file *.npz (dataset='npz:*.npz')"),
    setting('the same data set twice', 'dataset=npz:data.npz,npz:data.npz',
            "dataset='npz:data.npz,npz:data.npz' must name every data set "
            'once, with commas between'),
    Row('a data file that was cut off', '',
        'data.npz does not open as an .npz archive of plain arrays '
        '(BadZipFile)', cut('data.npz', 5000)),
    Row('data that are pickles', '',
        'data.npz does not open as an .npz archive of plain arrays '
        '(ValueError)',
        replaced('data.npz', train_labels=_OBJECTS)),
    Row('no test images', '',
        'data.npz lacks test_images; needed are train_images, train_labels, '
        'test_images, test_labels',
        replaced('data.npz', test_images=None)),
    Row('images that are no bytes', '',
        'train_images in data.npz must be uint8 [N, height, width, 1 or 3] '
        'and not empty, is float64 [120, 10, 10, 3]',
        replaced('data.npz', train_images=lambda x: x / 255)),
    Row('fewer labels than images', '',
        'train_labels in data.npz must be integers [120], one per image, is '
        'int32 [119]',
        replaced('data.npz', train_labels=lambda x: x[:-1])),
    Row('labels that count from 1', '',
        'train_labels in data.npz run from 1 to 6, must be within 0 to 5 (6 '
        'classes)',
        replaced('data.npz', train_labels=lambda x: x + 1)),
    Row('classes without test images', '',
        'task 2 of npz:data.npz has no test images: none of the classes [2, '
        '3] is in the 42 examples used (subsample_rate=-1)',
        replaced('data.npz', test_labels=lambda x: x * 0)),
    Row('domains of the training images only',
        '--my_config.continual.scenario=domain',
        'data.npz lacks test_domains, which the other split has; domains go '
        'with both or neither',
        replaced('data.npz', train_domains=np.zeros(120, int))),
)

FOLDERS = (
    setting('a folder that is not there', 'dataset=folder:nowhere',
            "no folder nowhere (dataset='folder:nowhere')"),
    _row('an image that does not decode',
         'pictures/train/c2/3.png does not decode (10 bytes); replace or '
         'remove it', lambda root: write(
        root / 'train/c2/3.png', b'no picture'), 'norm_01=False'),
    _row('a text file in a class folder',
         'pictures/train/c2/notes.txt in a class folder is no picture (.jpg, '
         '.jpeg, .png); move it elsewhere', lambda root: write(
        root / 'train/c2/notes.txt', b'x')),
    _row('an empty class folder',
         'pictures/train/c3 holds no pictures', _removed),
    _row('a picture outside the class folders',
         'pictures/train/x.png lies outside a class folder; move it into one',
         lambda root: write(
        root / 'train/x.png', b'x')),
    _row('a folder in a class folder',
         'pictures/train/c2/more is a folder within a class folder, which '
         'must hold pictures only; move it elsewhere', lambda root: write(
        root / 'train/c2/more/x.png', b'x')),
    _row('a class for the training only',
         "pictures has pictures of the class 'c9' in train/, but none in "
         'test/', lambda root: write(
        root / 'train/c9/x.png', b'x')),
    _row('no test folder',
         'pictures has train/ but no folder test/ of class folders', _no_test),
    Row('a domain that lacks a class',
        keys('dataset=folder:domains continual.scenario=domain'),
        "domains/photo has no class folder 'c5', which domains/art has",
        _pictures(_half_domain)),
    _row('lists of pictures that are not there',
         'no file train.txt (split_files)', lambda root: None,
         "split_files=('train.txt','test.txt')"),
    _row('a list that leaves the folder',
         'a.txt names ../../vit.npz, which does not end in DOMAIN/CLASS/FILE '
         'as its first line does', lambda root: [write(
        root.parent / name, b'train/c0/0.png\n../../vit.npz\n')
                                           for name in ('a.txt', 'b.txt')],
         "split_files=('a.txt','b.txt')"),
    setting('lists for data that are no folder',
            "split_files=('a.txt','b.txt')",
            'split_files divides the pictures of one folder:PATH, but '
            "dataset='npz:data.npz' has 0 of them"),
)
