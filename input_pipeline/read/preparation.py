# SPDX-License-Identifier: Apache-2.0
"""TFDS builders whose files are there, or one line on how to get them."""

from collections.abc import Iterator
import importlib
import os
import pathlib
import shlex
from typing import TYPE_CHECKING

from promptcl.input_pipeline.read import archives
from promptcl.input_pipeline.read import base

if TYPE_CHECKING:
  import tensorflow_datasets as tfds

_ROOM = 'promptcl.input_pipeline.read.builders'
# Builders that TFDS's catalogue lacks: module and class.
OWN = {
    'core50': (f'{_ROOM}.core50', 'Core50'),
    'notmnist': (f'{_ROOM}.notmnist', 'Notmnist'),
    'tinyimagenet': (f'{_ROOM}.tiny_imagenet', 'TinyImagenet'),
}


def prepared_builder(name: str, config: base.Settings, *, fetch: bool = True,
                     probe: str = '') -> 'tfds.core.DatasetBuilder':
  """A TFDS builder whose files are there, in a format with random access.

  Args:
    name: of the builder, 'name' or 'name/configuration'.
    config: reads `data_dir` ('' is TFDS's own default) and `manual_dir` (of
      archives that were fetched by hand; '' is downloads/manual under it).
    fetch: whether to download and write what is missing.
    probe: an address on the host of the files, where TFDS does not list any.

  Returns:
    A TFDS builder.

  Raises:
    FileNotFoundError: it is not prepared, and (with `fetch`) cannot be.
    ValueError: an archive is damaged, or the stored format will not do.
  """
  builder = _builder(name, config.data_dir)
  if not builder.is_prepared():
    if not fetch:
      raise FileNotFoundError(
          f'{name} is not in {builder.data_dir}; {_remedy(builder, config)}')
    builder = _prepare(name, config, probe)
  formats = {f.value for f in builder.info.available_file_formats()}
  if 'array_record' not in formats:
    raise ValueError(
        f'{name} in {builder.data_dir} is stored as {", ".join(formats)}, '
        'which has no random access; set data_dir to another folder, empty or '
        f'filled by: {_tfds_command(name, "FOLDER")}')
  return builder


def notes(builder: 'tfds.core.DatasetBuilder') -> tuple[str, ...]:
  """What was found while a data set of our own was prepared, a line each."""
  metadata = builder.info.metadata or {}
  lines = []
  names = metadata.get('skipped', ())
  if names:
    shown = ', '.join(names[:3]) + (', ...' if len(names) > 3 else '')
    lines.append(
        f'{len(names)} files that are no picture were left out: {shown}')
  if not metadata.get('verified', True):
    lines.append('no checksum of the archive is on record; the one used had '
                 f'sha256 {metadata["sha256"]}')
  return tuple(lines)


def command(name: str, config: base.Settings) -> str:
  """The shell command that prepares a data set, by its configured name."""
  words = ['python', '-m', 'input_pipeline.doctor', name, '--prepare']
  for key, value in (('data_dir', config.data_dir),
                     ('manual_dir', config.manual_dir)):
    words += [f'--{key}', str(value)] if value else []
  return shlex.join(words)


def _prepare(name: str, config: base.Settings, probe: str
             ) -> 'tfds.core.DatasetBuilder':
  """Writes the data set; TFDS does that beside and renames when complete."""
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top
  builder = _builder(name, config.data_dir, file_format='array_record')
  try:
    _check_reachable(builder, config, probe)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(
            manual_dir=config.manual_dir or None, try_download_gcs=False))
  except Exception as e:  # pylint: disable=broad-exception-caught
    # Another process of this machine may have been quicker.
    prepared = _builder(name, config.data_dir)
    if prepared.is_prepared():
      return prepared
    damage = archives.find_error(e)
    if damage:
      raise archives.ArchiveError(damage) from e
    reason = ' '.join(f'{type(e).__name__}: {e}'.split())[:150]
    raise FileNotFoundError(
        f'{name} is not in {builder.data_dir} and cannot be prepared there '
        f'({reason}); {_remedy(builder, config)}') from e
  return builder


def _builder(name: str, data_dir: str, **kwargs: str
             ) -> 'tfds.core.DatasetBuilder':
  # TensorFlow writes and lists files here; it must not take the accelerator.
  import tensorflow as tf  # pylint: disable=g-import-not-at-top
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top
  for kind in ('GPU', 'TPU'):
    tf.config.set_visible_devices([], kind)
  name, _, variant = name.partition('/')
  if name in OWN:
    module, class_name = OWN[name]
    make = getattr(importlib.import_module(module), class_name)
  else:
    make = tfds.builder_cls(name)
  return make(data_dir=data_dir or None, config=variant or None, **kwargs)


def _check_reachable(builder: 'tfds.core.DatasetBuilder', config: base.Settings,
                     probe: str) -> None:
  """Fails at once without a network: TFDS itself retries for minutes."""
  missing = [url for url, places in _places(builder, config)
             if not any(place.is_file() for place in places)]
  if probe and not missing:
    missing = [probe]
  # One address that answers shows that there is a network.
  if missing and not any(map(_answers, missing)):
    raise ConnectionError(f'{missing[0]} cannot be reached')


def _places(builder: 'tfds.core.DatasetBuilder', config: base.Settings
            ) -> Iterator[tuple[str, tuple[pathlib.Path, ...]]]:
  """(address, files that TFDS would take instead) of each download."""
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top
  downloads = pathlib.Path(builder.data_dir_root) / 'downloads'
  manual = pathlib.Path(os.path.expanduser(
      config.manual_dir or downloads / 'manual'))
  archive = getattr(builder, 'ARCHIVE', None)
  if archive:
    own = tfds.core.download.resource.get_dl_fname(archive.url)
    yield archive.url, (manual / archive.filename,
                        downloads / builder.name / own)
  for url, info in (builder.url_infos or {}).items():
    # Its own files, new and old, and those fetched by hand.
    own = tfds.core.download.resource.get_dl_fname(url, info.checksum)
    yield url, (downloads / builder.name / own, downloads / own,
                manual / (info.filename or own))


def _answers(url: str) -> bool:
  import requests  # pylint: disable=g-import-not-at-top
  try:
    requests.head(url, timeout=20)
  except requests.RequestException:
    return False
  return True


def _remedy(builder: 'tfds.core.DatasetBuilder', config: base.Settings) -> str:
  """How to get the data."""
  root = builder.data_dir_root
  archive = getattr(builder, 'ARCHIVE', None)
  if archive:
    manual = config.manual_dir or f'{root}/downloads/manual'
    return (f'where there is a network, run: {command(builder.name, config)} '
            f'(elsewhere, put {archive.filename} from {archive.url} into '
            f'{manual} before; see {archive.page})')
  variant = f'/{builder.builder_config.name}' if builder.builder_config else ''
  return ('where there is a network, run: '
          f'{_tfds_command(builder.name + variant, root)}')


def _tfds_command(name: str, root: str) -> str:
  code = ('import tensorflow_datasets as tfds; '
          f'tfds.builder("{name}", data_dir="{root}", '
          'file_format="array_record").download_and_prepare()')
  return f'python -c {shlex.quote(code)}'
