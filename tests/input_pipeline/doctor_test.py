# SPDX-License-Identifier: Apache-2.0
"""What the doctor says of data sets that are whole, damaged or absent."""

import subprocess
import sys

import numpy as np
import pytest

from promptcl.input_pipeline import doctor
from promptcl.input_pipeline.read import datasets
from tests.input_pipeline import small_data


@pytest.fixture
def see(capsys):
  """Runs the program; gives (exit status, lines)."""
  def see(*args):
    status = doctor.main([str(arg) for arg in args])
    return status, capsys.readouterr().out.splitlines()
  return see


def test_counts_of_a_usable_folder(see, pets):
  small_data.write_picture(pets / 'train/photo/dog/9.png', shape=(7, 5, 3))
  status, lines = see(f'folder:{pets}')
  assert status == 0
  assert lines == [
      f'folder:{pets}: 2 classes, 13 training and 8 test images',
      '  class   train    test',
      '  cat         6       4',
      '  dog         7       4',
      '  train images per class: 6 to 7',
      '  test images per class: 4',
      '  domain   train    test',
      '  photo        7       4',
      '  sketch       6       4',
      '  train: 13 of 13 images decoded, 2 x 3 to 7 x 5 pixels '
      '(height x width)',
      '  test: 8 of 8 images decoded, 2 x 3 pixels (height x width)',
      f'folder:{pets} is usable']


def test_many_classes_are_not_listed(see, npz):
  labels = np.arange(30)
  name = npz(train_labels=labels, test_labels=labels[:24], class_names=None)
  status, lines = see(name)
  assert status == 1
  assert '  test images per class: 0 to 1' in lines
  problems = [line for line in lines if line.startswith('PROBLEM')]
  assert problems == [f'PROBLEM {name}: class {c!r} has no test images'
                      for c in ('24', '25', '26')]
  assert len(lines) < 12


def test_classes_that_a_domain_lacks_are_noted(see, npz, arrays):
  domains = (arrays['train_labels'] == 2).astype(int)
  status, lines = see(npz(train_domains=domains,
                          test_domains=np.zeros(24, int)))
  assert status == 0
  assert ('  domain 1 has no train images of 5 classes, such as class 0'
          in lines)


def test_undecodable_images_are_named(see, plain):
  for i in (3, 5):
    (plain / f'a/{i}.jpg').write_bytes(b'')
  status, lines = see(f'folder:{plain}', '--decode', 0)
  assert status == 1 and lines[-1] == f'folder:{plain} is NOT usable'
  assert [line.split()[2] for line in lines if line.startswith('PROBLEM')] == [
      f'{plain}/a/{i}.jpg' for i in (3, 5)]


def test_only_some_images_are_decoded_unless_asked(see, npz):
  _, lines = see(npz(), '--decode', 7)
  assert ('  train: 7 of 30 images decoded, 5 x 4 pixels (height x width)'
          in lines)


def test_split_files(see, plain, tmp_path):
  for split, names in (('train', 'a/0.jpg\nb/0.jpg'), ('test', 'a/1.jpg')):
    (tmp_path / split).write_text(names)
  lists = ['--split_files', tmp_path / 'train', tmp_path / 'test']
  assert see(f'folder:{plain}', *lists)[0] == 1  # no b in the test
  (tmp_path / 'test').write_text('a/1.jpg\nb/1.jpg')
  assert see(f'folder:{plain}', *lists)[0] == 0


def test_every_member_of_a_sequence_is_looked_at(see, npz, tmp_path):
  status, lines = see(f'npz:{tmp_path}/gone.npz,{npz()},nonsense')
  assert status == 1
  assert lines[0].startswith(f'PROBLEM npz:{tmp_path}/gone.npz: no file')
  assert lines[1] == f'{npz()}: 6 classes, 30 training and 24 test images'
  assert lines[-2].startswith("PROBLEM nonsense: unknown data set 'nonsense'")


def test_bad_name(see):
  status, lines = see('mnist,mnist')
  assert status == 1 and 'must name every data set once' in lines[0]


class TestTfds:

  def test_nothing_is_written_without_leave(
      self, see, publish, put_by_hand, tmp_path):
    content = small_data.MAKERS['notmnist'][1](small_data.notmnist_files())
    publish('notmnist', content)
    put_by_hand('notmnist', content)
    folders = ('--data_dir', tmp_path / 'new', '--manual_dir',
               tmp_path / 'manual')
    status, lines = see('notmnist', *folders)
    assert status == 1 and not (tmp_path / 'new').exists()
    command = lines[0].partition('run: ')[2].partition(' (elsewhere')[0]
    assert command == ('python -m input_pipeline.doctor notmnist --prepare '
                       f'--data_dir {tmp_path}/new --manual_dir '
                       f'{tmp_path}/manual')
    assert see(*command.split()[3:])[0] == 0
    status, lines = see('notmnist', *folders)
    assert status == 0
    assert lines[0] == 'notmnist: 10 classes, 80 training and 20 test images'

  def test_how_to_get_it(self, see, tmp_path):
    status, lines = see('5datasets', '--data_dir', tmp_path)
    assert status == 1
    for line, name in zip(lines, datasets.members('5datasets'), strict=False):
      assert line.startswith(f'PROBLEM {name}: {name} is not in {tmp_path}/')
      assert 'where there is a network, run: python -' in line
    assert 'put notMNIST_small.tar.gz from http' in lines[3]

  def test_fewer_images_than_published(self, see, by_hand, tmp_path):
    by_hand('tinyimagenet', small_data.tiny_files())
    status, lines = see('tinyimagenet', '--data_dir', tmp_path / 'tfds')
    assert status == 1
    assert ('PROBLEM tinyimagenet: has 600 train images instead of 100000; '
            'prepare it anew from a complete download') in lines

  def test_what_was_left_out(self, see, by_hand, tmp_path):
    by_hand('notmnist', small_data.notmnist_files())
    status, lines = see('notmnist', '--data_dir', tmp_path / 'tfds')
    assert status == 0
    assert lines[-2].startswith('  notmnist: 2 files that are no picture')

  def test_damaged_shard(self, see, by_hand, tmp_path):
    by_hand('notmnist', small_data.notmnist_files())
    shard, = (tmp_path / 'tfds/notmnist').rglob('*train.array_record*')
    shard.write_bytes(shard.read_bytes()[:100])
    status, lines = see('notmnist', '--data_dir', tmp_path / 'tfds')
    assert status == 1
    assert lines[-2].startswith(
        'PROBLEM notmnist: notmnist/1.0.0 train: the stored files cannot be '
        'read (')


def test_program(npz, repository):
  done = subprocess.run(
      [sys.executable, '-m', 'input_pipeline.doctor', npz(), '--decode', '1'],
      cwd=repository, capture_output=True, text=True, check=False)
  assert done.returncode == 0 and done.stdout.endswith('is usable\n')
