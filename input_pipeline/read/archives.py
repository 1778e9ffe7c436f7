# SPDX-License-Identifier: Apache-2.0
"""Archives of data sets: where they come from and whether they are whole.

Nothing is ever unpacked to disk: members are read where they are.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import gzip
import hashlib
import lzma
import pathlib
import re
import shutil
import stat
import tarfile
from typing import TYPE_CHECKING
import zipfile
import zlib

from absl import logging

if TYPE_CHECKING:
  import tensorflow_datasets as tfds

# What the standard library raises for damaged or shortened archives.
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error,
           lzma.LZMAError, EOFError, NotImplementedError)


class ArchiveError(ValueError):
  """An archive is not what its author published; the message is one line."""


@dataclasses.dataclass(frozen=True)
class Archive:
  """A published archive.

  Attributes:
    url: its official address.
    filename: how it is called in `manual_dir`.
    page: a page for people.
    checksum: 'md5:...' or 'sha256:...' as published; '' where none is known.
    size: bytes, as published; None where not known.
  """

  url: str
  filename: str
  page: str
  checksum: str = ''
  size: int | None = None


def fetch(archive: Archive, dl_manager: 'tfds.download.DownloadManager'
          ) -> tuple[pathlib.Path, str]:
  """The archive's file, from `manual_dir` or downloaded, and verified.

  Args:
    archive: an `Archive`.
    dl_manager: TFDS's download manager.

  Returns:
    (path, sha256 of the file).

  Raises:
    ArchiveError: its size or checksum is not the published one.
  """
  path = _by_hand(archive, dl_manager)
  by_hand = path is not None
  if not by_hand:
    with _no_leftovers(pathlib.Path(dl_manager.download_dir)):
      path = pathlib.Path(dl_manager.download(archive.url))
  try:
    return path, _verify(path, archive)
  except ArchiveError:
    if not by_hand:
      path.unlink()  # or it would be taken again
    raise


def find_error(error: BaseException | None) -> str | None:
  """Message of the `ArchiveError` that an exception stems from, or None."""
  found = None
  while error is not None:
    if isinstance(error, ArchiveError):
      found = str(error)
    error = error.__cause__ or error.__context__
  return found


@contextlib.contextmanager
def open_zip(path: pathlib.Path, archive: Archive) -> Iterator[zipfile.ZipFile]:
  """A zipfile.ZipFile; damage found while it is open is an `ArchiveError`."""
  with _explain_damage(path, archive), zipfile.ZipFile(path) as file:
    for member in file.infolist():
      _check_name(member.filename, path)
      if stat.S_ISLNK(member.external_attr >> 16):
        raise ArchiveError(f'{path} holds {member.filename!r}, a link, and is '
                           'not used')
    yield file


@contextlib.contextmanager
def open_tar(path: pathlib.Path, archive: Archive
             ) -> Iterator[Iterator[tuple[str, bytes]]]:
  """Iterator over (name, bytes) of the files of a compressed tar archive."""
  with _explain_damage(path, archive), tarfile.open(path, 'r:*') as file:
    yield _tar_files(file, path)


def _tar_files(file: tarfile.TarFile, path: pathlib.Path
               ) -> Iterator[tuple[str, bytes]]:
  for member in file:
    _check_name(member.name, path)
    if member.isfile():
      yield member.name, file.extractfile(member).read()
    elif not member.isdir():
      raise ArchiveError(f'{path} holds {member.name!r}, a link or a device, '
                         'and is not used')


def _check_name(name: str, path: pathlib.Path) -> None:
  parts = name.replace('\\', '/').split('/')
  if not parts[0] or '..' in parts or re.match('[A-Za-z]:', name):
    raise ArchiveError(f'{path} holds {name!r}, which points outside its '
                       'folder, and is not used')


@contextlib.contextmanager
def _explain_damage(path: pathlib.Path, archive: Archive) -> Iterator[None]:
  try:
    yield
  except _DAMAGE as e:
    reason = ' '.join(f'{type(e).__name__}: {e}'.split())[:150]
    raise ArchiveError(f'{path} is damaged or cut off ({reason}); remove it '
                       f'and fetch it again from {archive.url}') from e


def _by_hand(archive: Archive, dl_manager: 'tfds.download.DownloadManager'
             ) -> pathlib.Path | None:
  """The file in `manual_dir`, or None."""
  try:
    path = pathlib.Path(dl_manager.manual_dir) / archive.filename
  except AssertionError:  # TFDS: no such folder, or an empty one
    return None
  return path if path.is_file() else None


@contextlib.contextmanager
def _no_leftovers(folder: pathlib.Path) -> Iterator[None]:
  """Removes the unfinished file that a failed download leaves."""
  before = set(folder.glob('*/*.tmp.*'))
  try:
    yield
  except BaseException:
    for leftover in set(folder.glob('*/*.tmp.*')) - before:
      shutil.rmtree(leftover, ignore_errors=True)
    raise


def _verify(path: pathlib.Path, archive: Archive) -> str:
  """SHA-256 of the file, which is as published as far as that is known."""
  size = path.stat().st_size
  if archive.size not in (None, size):
    raise ArchiveError(
        f'{path} has {size} bytes instead of {archive.size}: it is cut off or '
        f'another file; fetch it again from {archive.url}')
  kind, _, published = archive.checksum.partition(':')
  sha256 = _digest(path, 'sha256')
  if not published:
    logging.warning('No checksum of %s is on record; this file has sha256 %s',
                    archive.filename, sha256)
    return sha256
  found = sha256 if kind == 'sha256' else _digest(path, kind)
  if found != published:
    raise ArchiveError(
        f'{path} has {kind} {found} instead of {published}: it is damaged or '
        f'another file; fetch it again from {archive.url}')
  return sha256


def _digest(path: pathlib.Path, kind: str) -> str:
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, kind).hexdigest()
