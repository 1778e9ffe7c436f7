# SPDX-License-Identifier: Apache-2.0
"""Archives of our own builders: fetched, checked, refused."""

import collections
import contextlib
import hashlib
import http.server
import importlib
import io
import tarfile
import threading
import zipfile

import pytest

from promptcl.input_pipeline.read import archives
from promptcl.input_pipeline.read import preparation
from tests.input_pipeline import small_data

OWN = sorted(small_data.MAKERS)


@contextlib.contextmanager
def _server(content, *, stop_at=None):
  """A local web server of one file; it may hang up in the middle."""
  class Handler(http.server.BaseHTTPRequestHandler):
    requests = collections.Counter()

    def do_HEAD(self):
      self.send_response(200)
      self.send_header('Content-Length', str(len(content)))
      self.end_headers()

    def do_GET(self):
      self.requests['GET'] += 1
      self.do_HEAD()
      self.wfile.write(content[:stop_at])

    def log_message(self, format, *args):  # pylint: disable=redefined-builtin
      pass

  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
  thread = threading.Thread(target=server.serve_forever, args=(0.02,))
  thread.start()
  try:
    yield f'http://127.0.0.1:{server.server_port}/a/file', Handler.requests
  finally:
    server.shutdown()
    thread.join()
    server.server_close()


class TestDownload:

  def test_is_fetched_once_and_checked(self, publish, load_own, tmp_path):
    content = small_data.packed('notmnist')
    with _server(content) as (url, requests):
      publish('notmnist', content, url)
      assert len(load_own('notmnist').train) == 80
      assert requests['GET'] == 1
    assert len(load_own('notmnist').test) == 20  # the server is gone
    assert not list(tmp_path.rglob('*.tmp.*'))
    assert not list(tmp_path.rglob('*incomplete*'))

  def test_connection_lost_in_the_middle(self, publish, load_own, tmp_path):
    content = small_data.packed('notmnist')
    with _server(content, stop_at=len(content) // 2) as (url, _):
      publish('notmnist', content, url)
      with pytest.raises(FileNotFoundError) as error:
        load_own('notmnist')
    message = str(error.value)
    assert '\n' not in message and 'cannot be prepared' in message
    assert url in message and f'{tmp_path}/manual' in message
    assert not list(tmp_path.rglob('*.tmp.*'))
    assert not (tmp_path / 'tfds/notmnist/1.0.0').exists()
    with _server(content) as (url, _):
      publish('notmnist', content, url)
      assert len(load_own('notmnist').train) == 80

  def test_other_content_is_refused_and_not_kept(self, publish, load_own):
    content = small_data.packed('notmnist')
    other = content[:-1] + bytes([content[-1] ^ 1])
    with _server(other) as (url, requests):
      publish('notmnist', content, url)
      for attempt in (1, 2):
        with pytest.raises(archives.ArchiveError, match='md5 .* instead of'):
          load_own('notmnist')
        assert requests['GET'] == attempt

  def test_no_network(self, publish, load_own, tmp_path):
    publish('tinyimagenet', b'')
    with pytest.raises(FileNotFoundError) as error:
      load_own('tinyimagenet')
    message = str(error.value)
    assert '\n' not in message and 'cannot be reached' in message
    assert 'put tiny-imagenet-200.zip from http://127.0.0.1:9/gone' in message
    assert (f'python -m input_pipeline.doctor tinyimagenet --prepare '
            f'--data_dir {tmp_path}/tfds --manual_dir {tmp_path}/manual'
            ) in message

  def test_without_leave_nothing_is_fetched(self, publish, load_own, tmp_path):
    content = small_data.packed('notmnist')
    with _server(content) as (url, requests):
      publish('notmnist', content, url)
      with pytest.raises(FileNotFoundError, match='notmnist is not in'):
        load_own('notmnist', fetch=False)
    assert not requests and not (tmp_path / 'tfds').exists()


class TestDamage:

  @pytest.mark.parametrize('name', OWN)
  def test_cut_off_archive(self, name, publish, put_by_hand, load_own,
                           tmp_path):
    content = small_data.packed(name)[:-500]
    publish(name, content, checksum='')
    path = put_by_hand(name, content)
    with pytest.raises(archives.ArchiveError) as error:
      load_own(name)
    assert str(error.value).startswith(f'{path} is damaged or cut off (')
    assert '\n' not in str(error.value)
    assert not list((tmp_path / 'tfds' / name).glob('*'))

  def test_size_is_checked_first(self, publish, put_by_hand, load_own):
    publish('notmnist', small_data.packed('notmnist'))
    put_by_hand('notmnist', small_data.packed('notmnist')[:-500])
    with pytest.raises(archives.ArchiveError, match='bytes instead of .* cut'):
      load_own('notmnist')

  def test_checksum_of_a_file_in_manual_dir(self, publish, put_by_hand,
                                            load_own):
    content = small_data.packed('notmnist')
    publish('notmnist', content, checksum='sha256:' + 64 * '0')
    path = put_by_hand('notmnist', content)
    found = hashlib.sha256(content).hexdigest()
    with pytest.raises(archives.ArchiveError,
                       match=f'sha256 {found} instead of 0000'):
      load_own('notmnist')
    assert path.exists()  # it is the user's

  def test_absent_checksum_is_said(self, publish, put_by_hand, load_own):
    content = small_data.packed('notmnist')
    publish('notmnist', content, checksum='')
    put_by_hand('notmnist', content)
    assert load_own('notmnist').notes[1] == (
        'no checksum of the archive is on record; the one used had sha256 '
        f'{hashlib.sha256(content).hexdigest()}')

  def test_damaged_member_of_a_zip(self, publish, put_by_hand, load_own):
    name = 'core50_128x128/s2/o3/C_02_03_000.png'
    content = bytearray(small_data.packed('core50'))
    with zipfile.ZipFile(io.BytesIO(content)) as file:
      start = file.getinfo(name).header_offset
    content[start + 30 + len(name) + 5] ^= 255
    publish('core50', bytes(content), checksum='')
    put_by_hand('core50', bytes(content))
    with pytest.raises(archives.ArchiveError, match=f'Bad CRC.*{name}'):
      load_own('core50')

  @pytest.mark.parametrize('name', ['../evil.png', '/evil.png', 'C:\\evil.png',
                                    'core50_128x128/s1/../../../evil.png'])
  def test_member_that_points_outside(self, name, by_hand):
    for dataset in OWN:
      with pytest.raises(archives.ArchiveError, match='outside its folder'):
        files, _ = small_data.MAKERS[dataset]
        by_hand(dataset, files() | {name: small_data.picture(0)})

  @pytest.mark.parametrize('kind', [tarfile.SYMTYPE, tarfile.LNKTYPE])
  def test_link_in_a_tar(self, kind, publish, put_by_hand, load_own):
    files = small_data.notmnist_files()
    files['notMNIST_small/A/link.png'] = '/etc/passwd'
    content = small_data.pack_tar(files, kind)
    publish('notmnist', content)
    put_by_hand('notmnist', content)
    with pytest.raises(archives.ArchiveError, match='link.png.*a link'):
      load_own('notmnist')

  @pytest.mark.parametrize('name', ['core50', 'tinyimagenet'])
  def test_link_in_a_zip(self, name, by_hand):
    files = small_data.MAKERS[name][0]() | {'x/link.png': '/etc/passwd'}
    with pytest.raises(archives.ArchiveError, match='x/link.png.*a link'):
      by_hand(name, files)


@pytest.mark.parametrize('name', OWN)
def test_published_archives_are_described(name):
  module, class_name = preparation.OWN[name]
  archive = getattr(importlib.import_module(module), class_name).ARCHIVE
  kind, _, digest = archive.checksum.partition(':')
  assert len(digest) == {'': 0, 'md5': 32, 'sha256': 64}[kind]
  assert archive.url.endswith(archive.filename)
