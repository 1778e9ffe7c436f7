# SPDX-License-Identifier: Apache-2.0
"""Downloads from a server on this machine that breaks in all ways."""

import functools
import hashlib
import io
import pathlib
import sys

import numpy as np
import pytest

from promptcl.models.weights import download
from promptcl.models.weights import transfer
from tests.helpers import http_server

PIECE = transfer.PIECE
CONTENT = np.random.default_rng(0).bytes(10 * PIECE + 77)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
serve = functools.partial(http_server.serve, CONTENT)
fetch = functools.partial(download.fetch, delays=(0, 0))


@pytest.fixture
def cache(tmp_path):
  return str(tmp_path / 'cache')


def _from(pieces):
  """The Range header of a request behind so many pieces."""
  return f'bytes={pieces * PIECE}-' if pieces else ''


def test_a_broken_connection_is_taken_up_again(cache):
  with serve(breaks=[PIECE, 2 * PIECE + 5, 0, 3 * PIECE, 7]) as server:
    path = fetch(server.url, cache_dir=cache)
  assert pathlib.Path(path).read_bytes() == CONTENT
  # Five breaks, though two waits make three attempts: getting further starts
  # the count again.
  assert server.requests == [_from(n) for n in (0, 1, 3, 3, 6, 6)]


def test_the_next_start_goes_on_from_there(cache):
  with serve(breaks=[PIECE, 0, 0]) as server:
    with pytest.raises(OSError, match='16,384 bytes are kept.*next start') as e:
      fetch(server.url, cache_dir=cache)
    assert server.url in str(e.value) and '\n' not in str(e.value)
    assert http_server.cached(cache) == ['vit.npz.part', 'vit.npz.part.json']
    before = len(server.requests)
    path = fetch(server.url, cache_dir=cache)
  assert server.requests[before - 1:] == [_from(1), _from(1)]
  assert pathlib.Path(path).read_bytes() == CONTENT
  assert http_server.cached(cache) == ['vit.npz', 'vit.npz.json']


def test_a_server_that_died_is_one_line(cache):
  with serve() as server:
    url = server.url
  with pytest.raises(OSError, match='no connection.*0 bytes are kept') as error:
    fetch(url, cache_dir=cache)
  assert url in str(error.value)


def test_answers_shorter_than_what_is_missing(cache):
  with serve(breaks=[PIECE], longest=4 * PIECE) as server:
    path = fetch(server.url, cache_dir=cache)
  assert pathlib.Path(path).read_bytes() == CONTENT
  assert server.requests == [_from(n) for n in (0, 1, 5, 9)]


def test_a_server_without_ranges_starts_over(cache):
  with serve(breaks=[5 * PIECE, PIECE], ranges=False) as server:
    path = fetch(server.url, cache_dir=cache)
  assert pathlib.Path(path).read_bytes() == CONTENT
  assert server.requests == [_from(0), _from(5), _from(1)]


def test_a_server_without_ranges_that_always_breaks_ends(cache):
  with serve(breaks=[PIECE] * 9, ranges=False) as server, pytest.raises(
      OSError, match='could not be fetched'):
    fetch(server.url, cache_dir=cache)
  assert len(server.requests) == 3


def test_a_file_that_changed_meanwhile_is_not_mixed(cache):
  with serve(breaks=[PIECE, 0, 0]) as server:
    with pytest.raises(OSError):
      fetch(server.url, cache_dir=cache)
    server.content, server.etag = CONTENT[::-1], '"2"'
    path = fetch(server.url, cache_dir=cache)
  assert pathlib.Path(path).read_bytes() == CONTENT[::-1]


def test_without_a_version_only_a_checksum_lets_a_part_go_on(cache):
  with serve(breaks=[PIECE], etag='') as server:
    fetch(server.url, cache_dir=cache)
  assert server.requests == ['', '']
  with serve(breaks=[PIECE], etag='') as server:
    fetch(server.url, cache_dir=cache, sha256=DIGEST)
  assert server.requests == [_from(0), _from(1)]


def test_a_part_that_is_complete_already(cache):
  with serve(breaks=[PIECE, 0, 0]) as server:
    with pytest.raises(OSError):
      fetch(server.url, cache_dir=cache)
    part = next(pathlib.Path(cache).glob('*.part'))
    part.write_bytes(CONTENT)
    path = fetch(server.url, cache_dir=cache)
    assert server.requests[-1] == f'bytes={len(CONTENT)}-'
    assert pathlib.Path(path).read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_thrown_away(cache):
  with serve(breaks=[PIECE, 0, 0]) as server:
    with pytest.raises(OSError):
      fetch(server.url, cache_dir=cache)
    next(pathlib.Path(cache).glob('*.part')).write_bytes(CONTENT + b'x')
    path = fetch(server.url, cache_dir=cache)
  assert pathlib.Path(path).read_bytes() == CONTENT


def test_a_length_that_is_never_reached_ends(cache):
  with serve(overstated=7) as server, pytest.raises(
      OSError, match='could not be fetched'):
    fetch(server.url, cache_dir=cache)
  assert 'vit.npz' not in http_server.cached(cache)


@pytest.mark.parametrize('status, error, text', [
    (404, FileNotFoundError, 'not on the server.*check the address'),
    (403, OSError, '403.*fetched by hand'), (400, OSError, 'answers 400')])
def test_refusals_are_not_asked_twice(status, error, text, cache):
  with serve(statuses=[status]) as server, pytest.raises(error, match=text):
    fetch(server.url, cache_dir=cache)
  assert len(server.requests) == 1


def test_a_busy_server_is_asked_again(cache):
  with serve(statuses=[503, 429]) as server:
    path = fetch(server.url, cache_dir=cache)
  assert pathlib.Path(path).read_bytes() == CONTENT
  with serve(statuses=[503] * 9) as server, pytest.raises(
      OSError, match='answers 503'):
    fetch(server.url, cache_dir=cache)
  assert len(server.requests) == 3


def test_redirects_are_followed(cache):
  with serve(redirect='/moved/x') as server:
    path = fetch(server.url, cache_dir=cache)
  assert pathlib.Path(path).read_bytes() == CONTENT


def test_redirects_to_plain_http_elsewhere_are_refused(cache):
  elsewhere = 'http://example.invalid/vit.npz'
  with serve(redirect=elsewhere) as server, pytest.raises(
      OSError, match=f'leads to {elsewhere}'):
    fetch(server.url, cache_dir=cache)
  assert len(server.requests) == 1


def test_progress_is_shown_on_a_terminal_only(cache, monkeypatch):
  class Terminal(io.StringIO):

    def isatty(self):
      return True

  for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
    monkeypatch.setattr(sys, 'stderr', stream)
    with serve() as server:
      fetch(server.url, cache_dir=cache)
    assert ('vit.npz' in stream.getvalue()) == shown
