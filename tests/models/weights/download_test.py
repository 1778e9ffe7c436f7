# SPDX-License-Identifier: Apache-2.0
"""Addresses, the cache of downloads, checksums, several processes."""

import functools
import hashlib
import json
import pathlib
import subprocess
import sys

import pytest

from promptcl.models.weights import download
from tests.helpers import http_server

CONTENT = b'weights' * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
serve = functools.partial(http_server.serve, CONTENT)
fetch = functools.partial(download.fetch, delays=(0, 0))


@pytest.fixture
def cache(tmp_path):
  return str(tmp_path / 'cache')


def test_a_path_is_returned_as_it_is():
  assert download.fetch('/data/ViT-B_16.npz') == '/data/ViT-B_16.npz'


def test_a_file_is_fetched_once_and_recorded(cache):
  with serve() as server:
    path = pathlib.Path(fetch(server.url, cache_dir=cache))
    assert path.read_bytes() == CONTENT
    assert fetch(server.url, cache_dir=cache, sha256=DIGEST) == str(path)
  assert server.requests == ['']
  assert http_server.cached(cache) == ['vit.npz', 'vit.npz.json']
  record = json.loads(path.with_name(path.name + '.json').read_text())
  assert record == {'address': server.url, 'sha256': DIGEST,
                    'bytes': len(CONTENT)}


def test_a_wrong_checksum_leaves_nothing(cache):
  with serve() as server, pytest.raises(
      ValueError, match=f'{DIGEST}.*config.init_sha256 is 000') as error:
    fetch(server.url, cache_dir=cache, sha256='0' * 64)
  assert '\n' not in str(error.value)
  assert http_server.cached(cache) == []


def test_capitals_in_a_checksum_do_not_matter(cache):
  with serve() as server:
    fetch(server.url, cache_dir=cache, sha256=DIGEST.upper())


def test_a_damaged_cache_names_the_file(cache):
  with serve() as server:
    path = pathlib.Path(fetch(server.url, cache_dir=cache))
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(ValueError, match='its record.*delete'):
      fetch(server.url, cache_dir=cache)
    path.write_bytes(CONTENT)
    with pytest.raises(ValueError, match='init_sha256 is 111.*delete'):
      fetch(server.url, cache_dir=cache, sha256='1' * 64)
  assert len(server.requests) == 1


def test_a_file_put_there_by_hand_is_taken(cache):
  path = download.cached_path('https://nowhere.invalid/vit.npz', cache)
  path.parent.mkdir()
  path.write_bytes(CONTENT)
  assert fetch('https://nowhere.invalid/vit.npz', cache_dir=cache,
               sha256=DIGEST) == str(path)


def test_a_cache_that_cannot_be_written(tmp_path):
  (tmp_path / 'file').write_text('')
  with serve() as server, pytest.raises(
      OSError, match='config.cache_dir to another folder'):
    fetch(server.url, cache_dir=str(tmp_path / 'file' / 'cache'))


def test_four_processes_fetch_once(cache):
  code = ('import sys; from promptcl.models.weights import download; '
          'print(download.fetch(sys.argv[1], cache_dir=sys.argv[2]))')
  with serve(pause=0.5) as server:
    processes = [subprocess.Popen(
        [sys.executable, '-c', code, server.url, cache],
        stdout=subprocess.PIPE, text=True) for _ in range(4)]
    paths = {process.communicate(timeout=60)[0] for process in processes}
  assert server.requests == ['']
  assert {p.returncode for p in processes} == {0} and len(paths) == 1
  assert pathlib.Path(paths.pop().strip()).read_bytes() == CONTENT


@pytest.mark.parametrize('address, url', [
    ('https://host/a/b.npz', 'https://host/a/b.npz'),
    ('gs://vit_models/imagenet21k/ViT-B_16.npz',
     'https://storage.googleapis.com/vit_models/imagenet21k/ViT-B_16.npz'),
    ('hf://timm/vit.dino/model.safetensors',
     'https://huggingface.co/timm/vit.dino/resolve/main/model.safetensors'),
    ('hf://a/b@v1/sub/x y.npz',
     'https://huggingface.co/a/b/resolve/v1/sub/x%20y.npz')])
def test_addresses(address, url, monkeypatch):
  monkeypatch.delenv('HF_ENDPOINT', raising=False)
  assert download.web_address(address) == url


@pytest.mark.parametrize('address, text', [
    ('s3://bucket/file', 'begin with https'), ('hf://org/repo', 'hf://ORG'),
    ('gs://bucket', 'gs://BUCKET'), ('https:///x', 'https://HOST'),
    ('https://host/folder/', 'https://HOST'),
    ('http://example.org/vit.npz', 'this machine only'),
    ('http://localhost.example.org/vit.npz', 'this machine only'),
    ('http://localhost@example.org/vit.npz', 'this machine only'),
    ('file:///etc/passwd', 'begin with https'),
    ('https://host:99999/vit.npz', 'no address'),
    ('https://[host/vit.npz', 'no address')])
def test_addresses_that_are_refused(address, text, cache):
  with pytest.raises(ValueError, match=text) as error:
    fetch(address, cache_dir=cache)
  assert address in str(error.value)


def test_the_hub_may_be_a_mirror(cache, monkeypatch):
  with serve() as server:
    monkeypatch.setenv('HF_ENDPOINT', server.url.removesuffix('/dir/vit.npz'))
    path = fetch('hf://org/repo/vit.npz', cache_dir=cache)
  assert pathlib.Path(path).read_bytes() == CONTENT


def test_where_files_are_kept(monkeypatch, tmp_path):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  one, two = (download.cached_path(f'https://{host}/m/vit.npz?download=true')
              for host in 'ab')
  assert one.parent == tmp_path / 'jax_continual_prompting'
  assert one.name.endswith('-vit.npz') and one != two
  assert download.cached_path('gs://b/x.npz', '/c').parent == pathlib.Path('/c')


def test_names_in_an_address_stay_in_the_cache(cache):
  for name in '..%2f..%2fvit.npz', '%2fetc%2fpasswd', '..', '$(reboot).npz':
    path = download.cached_path(f'https://host/{name}', cache)
    assert path.parent == pathlib.Path(cache)
