# SPDX-License-Identifier: Apache-2.0
"""One file over HTTP into a partial file, across broken connections.

A partial file may only be continued with bytes of the same version of the
remote file.  So the version (ETag or date) is kept beside it, in
`NAME.part.json`, and every answer is compared with it.
"""

from collections.abc import Callable, Sequence
import contextlib
import dataclasses
import json
import pathlib
import re
import time
import urllib.parse

from etils import epy

with epy.lazy_imports():  # only what has an address is fetched
  import requests
  import tqdm

PIECE = 2**14  # bytes; one that does not arrive whole is asked for again
_TIMEOUT = (10, 60)  # seconds: to connect, between two pieces
_RETRIED = (408, 425, 429, 500, 502, 503, 504)  # may pass by itself
_RANGE = re.compile(r'bytes (?:(\d+)-\d+|\*)/(\d+|\*)')


class _Broken(Exception):
  """An attempt ended early; another may get further."""


@dataclasses.dataclass(frozen=True)
class _Answer:
  """What the headers of an answer say.

  Attributes:
    start: first byte that follows.
    total: bytes of the whole file, or None.
    version: of the remote file, or ''.
  """

  start: int
  total: int | None
  version: str


def download(url: str, part: pathlib.Path, *, name: str, address: str,
             delays: Sequence[float], checked: bool,
             allowed: Callable[[str], bool]) -> pathlib.Path:
  """Fetches `url` into `part`, going on where `part` ends.

  Args:
    url: https or http address.
    part: the partial file; it stays there when this fails.
    name: for the progress bar.
    address: as the user gave it, for messages.
    delays: seconds before each further attempt; an attempt that gets further
      than all before starts the count again.
    checked: the caller knows the checksum, so a partial file of unknown
      version may be continued.
    allowed: whether bytes may come from an address, redirects included.

  Returns:
    `part`, complete.

  Raises:
    FileNotFoundError: the server has no such file.
    OSError: refused, or broken too often.
  """
  best, attempt = _size(part), 0
  while True:
    try:
      _attempt(url, part, name, address, checked, allowed)
      return part
    except (_Broken, requests.RequestException) as e:
      reason = str(e) if isinstance(e, _Broken) else _short(e)
    if _size(part) > best:
      best, attempt = _size(part), 0
    if attempt == len(delays):
      raise OSError(
          f'init_checkpoint {address!r} could not be fetched ({reason}); '
          f'{_size(part):,} bytes are kept in {str(part)!r}, and the next '
          'start goes on from there')
    time.sleep(delays[attempt])
    attempt += 1


def discard(part: pathlib.Path) -> None:
  """Removes a partial file and what is known of it."""
  part.unlink(missing_ok=True)
  _version_file(part).unlink(missing_ok=True)


def _attempt(url: str, part: pathlib.Path, name: str, address: str,
             checked: bool, allowed: Callable[[str], bool]) -> None:
  """One request; returns when `part` is complete, raises when it broke."""
  have, version = _size(part), _version(part)
  if have and not version and not checked:
    discard(part)  # nothing would tell a mixture of two versions
    have = 0
  # Compressed on the way, sizes would not be those of the file.
  headers = {'Accept-Encoding': 'identity'}
  if have:
    headers['Range'] = f'bytes={have}-'
  def check_redirect(response, **unused):
    target = urllib.parse.urljoin(
        response.url, response.headers.get('Location', ''))
    if response.is_redirect and not allowed(target):
      raise OSError(f'init_checkpoint {address!r} leads to {target}, which is '
                    'neither https nor this machine')

  with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT,
                    hooks={'response': check_redirect}) as response:
    if response.status_code == 416 and _complete(response, have, version):
      return
    if response.status_code == 416:
      discard(part)
      raise _Broken('the partial file fits no more')
    _check_status(response, address)
    answer = _read_headers(response)
    if answer.start and (answer.start != have or (
        version and answer.version != version)):
      discard(part)
      raise _Broken('the file on the server has changed')
    _remember(part, answer.version)
    _receive(response, part, answer, name)


def _receive(response: 'requests.Response', part: pathlib.Path, answer: _Answer,
             name: str) -> None:
  """Writes the body behind the first `answer.start` bytes of `part`."""
  bar = tqdm.tqdm(total=answer.total, initial=answer.start, desc=name,
                  unit='B', unit_scale=True, unit_divisor=1024, leave=False,
                  disable=None)  # no bar in a log file
  with bar, open(part, 'r+b' if answer.start else 'wb') as file:
    file.seek(answer.start)
    for piece in response.iter_content(PIECE):
      file.write(piece)
      bar.update(len(piece))
  if answer.total is not None and _size(part) != answer.total:
    raise _Broken(f'it ended after {_size(part):,} of {answer.total:,} bytes')


def _check_status(response: 'requests.Response', address: str) -> None:
  """Tells what a status without a file means.

  Raises:
    FileNotFoundError: 404 and 410.
    _Broken: the server may have recovered soon.
    OSError: any other refusal.
  """
  status = response.status_code
  if status in (200, 206):
    return
  if status in (404, 410):
    raise FileNotFoundError(f'init_checkpoint {address!r} is not on the server '
                            f'({status}); check the address')
  if status in _RETRIED:
    raise _Broken(f'the server answers {status}')
  private = ('; a private or gated file must be fetched by hand'
             if status in (401, 403) else '')
  raise OSError(f'init_checkpoint {address!r}: the server answers {status}'
                f'{private}')


def _read_headers(response: 'requests.Response') -> _Answer:
  headers = response.headers
  version = headers.get('ETag') or headers.get('Last-Modified') or ''
  if response.status_code == 200:  # the whole file, whatever was asked for
    length = headers.get('Content-Length')
    return _Answer(0, int(length) if length else None, version)
  found = _RANGE.match(headers.get('Content-Range', ''))
  if not found or found[1] is None:
    raise _Broken('the server sends a part without saying which')
  total = None if found[2] == '*' else int(found[2])
  return _Answer(int(found[1]), total, version)


def _complete(response: 'requests.Response', have: int, version: str) -> bool:
  """Whether a range past the end was refused because nothing is missing."""
  found = _RANGE.match(response.headers.get('Content-Range', ''))
  now = response.headers.get('ETag') or response.headers.get('Last-Modified')
  return bool(found) and found[2] == str(have) and (now or version) == version


def _short(error: 'requests.RequestException') -> str:
  """Kind of an error of `requests`, whose texts are long and nested."""
  kinds = ((requests.Timeout, 'no answer in time'),
           (requests.exceptions.SSLError, 'no valid certificate'),
           (requests.exceptions.ChunkedEncodingError, 'the connection broke'),
           (requests.ConnectionError, 'no connection'))
  return next((text for kind, text in kinds if isinstance(error, kind)),
              f'{type(error).__name__}: {error}')


def _size(part: pathlib.Path) -> int:
  return part.stat().st_size if part.exists() else 0


def _version_file(part: pathlib.Path) -> pathlib.Path:
  return part.with_name(part.name + '.json')


def _remember(part: pathlib.Path, version: str) -> None:
  _version_file(part).write_text(json.dumps({'version': version}))


def _version(part: pathlib.Path) -> str:
  """Version of the remote file that `part` is of, '' if not known."""
  with contextlib.suppress(OSError, ValueError):
    return str(json.loads(_version_file(part).read_text())['version'])
  return ''
