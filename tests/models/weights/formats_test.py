# SPDX-License-Identifier: Apache-2.0
"""What a file is, told by content; damaged and foreign files."""

import contextlib
import pickle
import zipfile

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from promptcl.models.weights import formats


def _safetensors(path, **arrays):
  safetensors.numpy.save_file(arrays, path, metadata={'format': 'pt'})
  return str(path)


def test_kinds_are_told_by_content_whatever_the_name(tmp_path):
  np.savez(tmp_path / 'a.npz', cls=np.ones(2))
  (tmp_path / 'a.npz').rename(tmp_path / 'weights.safetensors')
  npz = str(tmp_path / 'weights.safetensors')
  other = _safetensors(tmp_path / 'weights.npz', cls=np.full(2, 3.0))
  assert (formats.kind(npz), formats.kind(other)) == ('npz', 'safetensors')
  np.testing.assert_array_equal(formats.read(npz)['cls'], [1, 1])
  np.testing.assert_array_equal(formats.read(other)['cls'], [3, 3])


@pytest.mark.parametrize('length', range(8))
def test_any_length_of_a_safetensors_header(length, tmp_path):
  # One in 32 of these files begins with the byte of a pickle, 0x80.
  metadata = {'padding': 'x' * (8 * length)}
  path = tmp_path / 'x.safetensors'
  safetensors.numpy.save_file({'cls': np.ones(2)}, path, metadata=metadata)
  assert formats.kind(str(path)) == 'safetensors'


def test_the_byte_of_a_pickle_at_the_start_of_safetensors(tmp_path):
  path = tmp_path / 'x.safetensors'
  for size in range(200):
    safetensors.numpy.save_file(
        {'cls': np.ones(2)}, path, metadata={'padding': 'x' * size})
    if path.read_bytes()[:1] == b'\x80':
      break
  else:
    pytest.fail('no header of that length')
  assert formats.kind(str(path)) == 'safetensors'


@pytest.mark.parametrize('dtype', [np.float16, np.float64, ml_dtypes.bfloat16])
def test_everything_becomes_float32(dtype, tmp_path):
  path = _safetensors(tmp_path / 'x.safetensors', cls=np.ones(2, dtype))
  assert formats.read(path)['cls'].dtype == np.float32
  if dtype != ml_dtypes.bfloat16:  # which .npz files cannot hold
    np.savez(tmp_path / 'x.npz', cls=np.ones(2, dtype))
    assert formats.read(str(tmp_path / 'x.npz'))['cls'].dtype == np.float32


def _torch_zip(path):
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('archive/data.pkl', b'\x80\x02}q\x00.')
    archive.writestr('archive/version', b'3\n')


@pytest.mark.parametrize('write', [
    _torch_zip, lambda path: path.write_bytes(pickle.dumps({'model': 1}))])
def test_a_file_of_torch_names_the_converter(write, tmp_path):
  path = tmp_path / 'deit.pth'
  write(path)
  with pytest.raises(ValueError, match='tools.convert_weights .*deit.pth'):
    formats.read(str(path))


def test_a_folder_names_the_converter(tmp_path):
  with pytest.raises(ValueError, match='folder.*tools.convert_weights'):
    formats.kind(str(tmp_path))


@pytest.mark.parametrize('content, error', [
    (None, FileNotFoundError), (b'', ValueError), (b'no archive', ValueError),
    (b'<!DOCTYPE html><html>Sign in</html>', ValueError),
    (b'PK\x03\x04 cut off', ValueError),
    (b'\x10\0\0\0\0\0\0\0{"cls": broken', ValueError)])
@pytest.mark.parametrize('use', [formats.read, formats.peek])
def test_files_that_cannot_be_read(content, error, use, tmp_path):
  path = tmp_path / 'weights.npz'
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(error, match='weights.npz') as raised:
    use(str(path))
  assert '\n' not in str(raised.value)


def test_files_that_were_cut_off(tmp_path):
  path = tmp_path / 'x.safetensors'
  _safetensors(path, cls=np.ones(64))
  path.write_bytes(path.read_bytes()[:-5])
  with pytest.raises(ValueError, match='x.safetensors'):
    formats.read(str(path))
  np.savez(tmp_path / 'x.npz', cls=np.ones(64))
  whole = (tmp_path / 'x.npz').read_bytes()
  (tmp_path / 'x.npz').write_bytes(whole[:len(whole) // 2])
  with pytest.raises(ValueError, match='x.npz'):
    formats.read(str(tmp_path / 'x.npz'))


class Planted:
  """Leaves a file where somebody unpickles it."""

  def __init__(self, path):
    self._path = path

  def __reduce__(self):
    return open, (str(self._path), 'w')


def test_a_planted_pickle_would_run(tmp_path):
  pickle.loads(pickle.dumps(Planted(tmp_path / 'was here'))).close()
  assert (tmp_path / 'was here').exists()


@pytest.mark.parametrize('name', ['cls', formats.META, 'head/bias'])
def test_a_file_of_pickled_objects_is_never_unpickled(name, tmp_path):
  planted = np.array([Planted(tmp_path / 'was here')], dtype=object)
  np.savez(tmp_path / 'bad.npz', **{name: planted})
  for use in formats.read, formats.peek:
    with contextlib.suppress(ValueError):
      use(str(tmp_path / 'bad.npz'))
  with pytest.raises(ValueError, match='bad.npz'):
    formats.peek(str(tmp_path / 'bad.npz'))
    formats.read(str(tmp_path / 'bad.npz'))
  (tmp_path / 'raw').write_bytes(pickle.dumps(planted))
  with pytest.raises(ValueError, match='tools.convert_weights'):
    formats.read(str(tmp_path / 'raw'))
  assert not (tmp_path / 'was here').exists()


@pytest.mark.parametrize('name', ['x.npz', 'small.npz', 'x.safetensors'])
def test_damage_anywhere_is_one_line(name, tmp_path):
  arrays = {'cls': np.ones(64, np.float32), 'head/bias': np.ones(3, np.float32)}
  np.savez(tmp_path / 'x.npz', **arrays)
  np.savez_compressed(tmp_path / 'small.npz', **arrays)
  _safetensors(tmp_path / 'x.safetensors', **arrays)
  whole, rng = (tmp_path / name).read_bytes(), np.random.default_rng(0)
  refused = 0
  for _ in range(150):
    damaged = bytearray(whole)
    damaged[rng.integers(len(damaged))] = rng.integers(256)
    (tmp_path / 'damaged').write_bytes(damaged)
    try:
      formats.peek(str(tmp_path / 'damaged'))
      formats.read(str(tmp_path / 'damaged'))
    except ValueError as error:
      assert '\n' not in str(error)
      refused += 1
  assert refused > 10


def test_only_real_numbers_are_weights(tmp_path):
  for array in np.ones(2, complex), np.array(['a']):
    np.savez(tmp_path / 'x.npz', cls=array)
    with pytest.raises(ValueError, match='cls is .* must be real numbers'):
      formats.read(str(tmp_path / 'x.npz'))


def test_what_a_file_shows_of_itself(tmp_path):
  path = str(tmp_path / 'x.npz')
  arrays = {'cls': np.ones(2), 'head/bias': np.ones(7)}
  formats.write_npz(path, arrays, {'family': 'dino'})
  assert formats.peek(path) == formats.Peek(
      frozenset(arrays), 7, {'family': 'dino'})
  assert formats.read(path).keys() == arrays.keys()
  path = _safetensors(tmp_path / 'x.safetensors', cls=np.ones(2),
                      **{'head.bias': np.ones(5)})
  assert formats.peek(path) == formats.Peek(
      frozenset(('cls', 'head.bias')), 5, {'format': 'pt'})


def test_meta_that_is_no_object_is_refused(tmp_path):
  np.savez(tmp_path / 'x.npz', meta=np.array('[1]'))
  with pytest.raises(ValueError, match='x.npz.*JSON'):
    formats.peek(str(tmp_path / 'x.npz'))


def test_writing_leaves_the_old_file_or_the_new_one(tmp_path):
  path = tmp_path / 'x.npz'
  formats.write_npz(path, {'cls': np.ones(1)}, {})
  with pytest.raises(TypeError):
    formats.write_npz(path, {'cls': np.zeros(1)}, {'no JSON': object()})
  assert formats.read(str(path))['cls'] == 1
  assert [p.name for p in tmp_path.iterdir()] == ['x.npz']
