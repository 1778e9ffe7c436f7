# SPDX-License-Identifier: Apache-2.0
"""Weights from an address: fetched once, checked, kept in a cache folder.

  path = fetch('hf://timm/vit_base_patch16_224.dino/model.safetensors')

Addresses: `https://...`; `gs://BUCKET/PATH` (public buckets);
`hf://ORG/REPO/PATH` and `hf://ORG/REPO@REVISION/PATH`; `http://` from this
machine only, since anybody on the way could change the weights.  What stands at
an address is taken to stay the same: a cached file is not asked for again.

In the cache folder, for one address: the file, `.json` beside it with address,
size and SHA-256, `.part` while it is incomplete (a later start goes on where it
ends), `.lock` held by the one process that is fetching.
"""

from collections.abc import Iterator, Sequence
import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import sys
import urllib.parse

from promptcl.models.weights import transfer

_SCHEMES = 'https://, http:// (this machine), gs:// or hf://'
_LOCAL_HOSTS = ('localhost', '127.0.0.1', '::1')
DELAYS = (1.0, 2.0, 4.0, 8.0)  # seconds before the second, third, ... attempt


def fetch(address: str, *, cache_dir: str = '', sha256: str = '',
          delays: Sequence[float] = DELAYS) -> str:
  """Path of the file at `address`; downloads it unless it is in the cache.

  Args:
    address: see above; anything without `://` is a path and is returned.
    cache_dir: '' is `jax_continual_prompting` in the user's cache folder.
    sha256: of the file, hexadecimal; '' accepts any.
    delays: seconds to wait before each new attempt.

  Returns:
    Path of a local file.

  Raises:
    ValueError: a malformed address, a wrong checksum, a file that is damaged.
    FileNotFoundError: nothing at that address.
    OSError: it cannot be reached, or the cache folder cannot be written.
  """
  if '://' not in address:
    return address
  url = web_address(address)
  path = cached_path(address, cache_dir)
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path):
      if path.exists():
        _check_cached(path, sha256, address)
      else:
        part = transfer.download(
            url, _beside(path, '.part'), name=_file_name(address),
            address=address, delays=delays, checked=bool(sha256),
            allowed=_allowed)
        _accept(part, path, sha256=sha256, address=address)
  except OSError as e:
    if e.errno is None:  # ours
      raise
    raise OSError(f'cache_dir {str(path.parent)!r} cannot be written '
                  f'({e.strerror}); make room or set config.cache_dir to '
                  'another folder') from e
  return str(path)


def web_address(address: str) -> str:
  """The https (or local http) address behind an address of ours.

  Raises:
    ValueError: malformed, another scheme, or http from another machine.
  """
  scheme, _, rest = address.partition('://')
  parts = rest.split('/')
  need = {'https': 2, 'http': 2, 'gs': 2, 'hf': 3}.get(scheme)
  if need is None:
    raise ValueError(f'init_checkpoint {address!r}: addresses begin with '
                     f'{_SCHEMES}')
  if len(parts) < need or not all((*parts[:need], parts[-1])):
    form = {'gs': 'gs://BUCKET/PATH', 'hf': 'hf://ORG/REPO/FILE'}.get(
        scheme, f'{scheme}://HOST/PATH')
    raise ValueError(f'init_checkpoint {address!r} must have the form {form}')
  if scheme == 'gs':
    return f'https://storage.googleapis.com/{urllib.parse.quote(rest)}'
  if scheme == 'hf':
    # The variable that the hub's own tools read, for mirrors.
    hub = os.environ.get('HF_ENDPOINT', 'https://huggingface.co').rstrip('/')
    repository, _, revision = parts[1].partition('@')
    file = urllib.parse.quote('/'.join(parts[2:]))
    address = (f'{hub}/{parts[0]}/{repository}/resolve/{revision or "main"}/'
               f'{file}')
  try:
    _ = urllib.parse.urlsplit(address).port
  except ValueError as e:
    raise ValueError(f'init_checkpoint {address!r} is no address: {e}') from e
  if not _allowed(address):
    raise ValueError(f'init_checkpoint {address!r}: http:// is for this '
                     'machine only; use https://')
  return address


def _allowed(url: str) -> bool:
  """Whether bytes may come from `url`; redirects are asked about, too."""
  try:
    found = urllib.parse.urlsplit(url)
  except ValueError:
    return False
  return found.scheme == 'https' or (
      found.scheme == 'http' and found.hostname in _LOCAL_HOSTS)


def cached_path(address: str, cache_dir: str = '') -> pathlib.Path:
  """Where the file of `address` is kept; two addresses never share a place."""
  if cache_dir:
    folder = pathlib.Path(os.path.expanduser(cache_dir))
  else:
    base = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    folder = pathlib.Path(os.path.expanduser(base)) / 'jax_continual_prompting'
  digest = hashlib.sha256(address.encode()).hexdigest()[:12]
  return folder / f'{digest}-{_file_name(address)}'


def _file_name(address: str) -> str:
  """Last part of the path in an address, without a query."""
  name = urllib.parse.urlsplit(address).path.rpartition('/')[2]
  return urllib.parse.unquote(name).replace('/', '_') or 'weights'


def _beside(path: pathlib.Path, ending: str) -> pathlib.Path:
  return path.with_name(path.name + ending)


@contextlib.contextmanager
def _alone(path: pathlib.Path) -> Iterator[None]:
  """Holds the lock of a cached file; the system frees it if we are killed."""
  with open(_beside(path, '.lock'), 'ab') as lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      print(f'waiting for another process that fetches {path.name}',
            file=sys.stderr, flush=True)
      fcntl.flock(lock, fcntl.LOCK_EX)
    yield


def _accept(part: pathlib.Path, path: pathlib.Path, *, sha256: str,
            address: str) -> None:
  """Puts a complete download in its place; record first, so it has one.

  Raises:
    ValueError: it has another checksum than `sha256`; it is thrown away.
  """
  found, size = _digest(part), part.stat().st_size
  if sha256 and found != sha256.lower():
    transfer.discard(part)
    raise ValueError(
        f'init_checkpoint {address!r} arrived with sha256 {found}, but '
        f'config.init_sha256 is {sha256}; it was deleted')
  _write_record(path, {'address': address, 'sha256': found, 'bytes': size})
  os.replace(part, path)
  transfer.discard(part)


def _check_cached(path: pathlib.Path, sha256: str, address: str) -> None:
  """Compares a cached file with its record and with `sha256`.

  A file without record was put there by hand; it gets one.

  Raises:
    ValueError: it differs; says which file to delete.
  """
  found, record = _digest(path), _beside(path, '.json')
  if not record.exists():
    _write_record(path, {'address': address, 'sha256': found,
                         'bytes': path.stat().st_size})
  wanted = {'its record': json.loads(record.read_text())['sha256'],
            'config.init_sha256': sha256.lower() or found}
  for source, value in wanted.items():
    if found != value:
      raise ValueError(
          f'init_checkpoint {address!r}: the cached file {str(path)!r} has '
          f'sha256 {found}, but {source} is {value}; delete the file to fetch '
          'it again')


def _write_record(path: pathlib.Path, record: dict) -> None:
  draft = _beside(path, '.json.part')
  draft.write_text(json.dumps(record, indent=2) + '\n')
  os.replace(draft, _beside(path, '.json'))


def _digest(path: pathlib.Path) -> str:
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
