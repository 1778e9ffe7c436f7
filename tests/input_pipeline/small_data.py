# SPDX-License-Identifier: Apache-2.0
"""Small archives, laid out as those of our own builders, and pictures."""

import functools
import io
import stat
import tarfile
import zipfile

import cv2
import numpy as np

LETTERS = 'ABCDEFGHIJ'


def write_picture(path, level=0, shape=(2, 3, 3)):
  """A picture of one level in a file; folders are made."""
  path.parent.mkdir(parents=True, exist_ok=True)
  cv2.imwrite(str(path), np.full(shape, level, np.uint8))


@functools.cache
def picture(level, suffix='.png', side=4):
  return cv2.imencode(suffix, np.full((side, side, 3), level, np.uint8)
                      )[1].tobytes()


def core50_files():
  """Two frames of each object in each session; the level tells which."""
  files = {'core50_128x128/': b'', 'core50_128x128/s1/o1/.DS_Store': b'x'}
  for session in range(1, 12):
    for number in range(1, 51):
      for frame in range(2 if number == 7 else 1):
        name = f'C_{session:02d}_{number:02d}_{frame:03d}.png'
        files[f'core50_128x128/s{session}/o{number}/{name}'] = picture(
            20 * session + number // 10)
  return files


def tiny_files():
  """Three training pictures and one of validation of 200 classes."""
  ids = [f'n{i:08d}' for i in range(300, 100, -1)]  # not in order, as the real
  root = 'tiny-imagenet-200'
  files = {f'{root}/wnids.txt': '\n'.join(ids).encode() + b'\n'}
  words = [f'{wnid}\tword {i}, other word' for i, wnid in enumerate(ids)]
  words[1] = f'{ids[1]}\tword 0'  # as the one before
  words.append('n99999999\tof no class here')
  files[f'{root}/words.txt'] = '\n'.join(words).encode()
  annotations = []
  for i, wnid in enumerate(ids):
    encoded = picture(i, '.jpg', 64)
    for k in range(3):
      files[f'{root}/train/{wnid}/images/{wnid}_{k}.JPEG'] = encoded
    files[f'{root}/train/{wnid}/{wnid}_boxes.txt'] = b'boxes'
    # Numbered against the order of the classes.
    files[f'{root}/val/images/val_{199 - i}.JPEG'] = encoded
    annotations.append(f'val_{199 - i}.JPEG\t{wnid}\t0\t0\t62\t62')
  files[f'{root}/val/val_annotations.txt'] = '\n'.join(annotations).encode()
  files[f'{root}/test/images/test_0.JPEG'] = picture(1, '.jpg', 64)
  return files


def notmnist_files():
  """Ten pictures of each letter; and two that are none, as in the real one."""
  files = {f'notMNIST_small/{letter}/{i:02d}==.png':
           cv2.imencode('.png', np.full((28, 28), 20 * label + i, np.uint8)
                        )[1].tobytes()
           for label, letter in enumerate(LETTERS) for i in range(10)}
  files['notMNIST_small/A/broken.png'] = b''
  files['notMNIST_small/F/broken.png'] = b'no picture'
  files['notMNIST_small/._.DS_Store'] = b'x'
  return files


def pack_zip(files):
  data = io.BytesIO()
  with zipfile.ZipFile(data, 'w') as file:
    for name, content in files.items():
      member = zipfile.ZipInfo(name)
      if isinstance(content, str):
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
      file.writestr(member, content)
  return data.getvalue()


def pack_tar(files, link=tarfile.SYMTYPE):
  """An archive of {name: bytes, or text: where a link of that kind leads}."""
  data = io.BytesIO()
  with tarfile.open(fileobj=data, mode='w:gz') as file:
    for name, content in files.items():
      member = tarfile.TarInfo(name)
      if isinstance(content, str):
        member.type, member.linkname = link, content
        file.addfile(member)
      else:
        member.size = len(content)
        file.addfile(member, io.BytesIO(content))
  return data.getvalue()


# What is in the archive of each data set, and how it is packed.
MAKERS = {'core50': (core50_files, pack_zip),
          'notmnist': (notmnist_files, pack_tar),
          'tinyimagenet': (tiny_files, pack_zip)}


@functools.cache
def packed(name):
  files, pack = MAKERS[name]
  return pack(files())


def pictures(batches):
  """(row of its split, original label, head column) of each real picture.

  For the `arrays` of `conftest.py`, whose pixels tell row and label.
  """
  found = []
  for batch in batches:
    pixels = np.rint(batch['image'][:, 0, 0] * 255).astype(int)
    real = batch.get('mask', np.ones(len(pixels))) == 1
    found += zip(pixels[real, 0].tolist(), pixels[real, 1].tolist(),
                 batch['label'][real].tolist(), strict=True)
  return found
