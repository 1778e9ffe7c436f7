# SPDX-License-Identifier: Apache-2.0
"""What the builders of our own have in common."""

import pathlib
from typing import Any

from absl import logging
from etils import epath
import tensorflow_datasets as tfds

from promptcl.input_pipeline.read import archives
from promptcl.input_pipeline.read import sources

Example = tuple[str, dict[str, Any]]  # key and features


class PictureBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Labelled pictures out of one archive.

  The stored bytes are the archive's. A member that is no picture is left out,
  counted and named in the log and in the metadata ('skipped'); a damaged
  archive is refused. The metadata also hold the archive's 'sha256' and whether
  it was 'verified' against a published checksum.
  """

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'First version.'}
  MANUAL_DOWNLOAD_INSTRUCTIONS = 'Put the archive into this folder.'
  ARCHIVE: archives.Archive
  # TFDS would look below `promptcl`, which in a checkout is another folder.
  pkg_dir_path = epath.Path(__file__).parent

  def _picture_info(self, description: str, image: tfds.features.Image,
                    label: tfds.features.ClassLabel,
                    **features: tfds.features.FeatureConnector
                    ) -> tfds.core.DatasetInfo:
    """DatasetInfo of pictures with a label and perhaps more."""
    return self.dataset_info_from_configs(
        description=description, homepage=self.ARCHIVE.page,
        features=tfds.features.FeaturesDict(
            {'image': image, 'label': label, **features}),
        supervised_keys=('image', 'label'),
        metadata=tfds.core.MetadataDict(skipped=[]))

  def _fetch(self, dl_manager: tfds.download.DownloadManager) -> pathlib.Path:
    """Path of the verified archive."""
    path, sha256 = archives.fetch(self.ARCHIVE, dl_manager)
    self.info.metadata.update(sha256=sha256,
                              verified=bool(self.ARCHIVE.checksum))
    return path

  def _is_picture(self, name: str, encoded: bytes) -> bool:
    """Whether the bytes of member `name` decode; keeps count of the others."""
    if sources.decode(encoded) is not None:
      return True
    self.info.metadata['skipped'].append(name)
    logging.warning('%s: %s is no picture (%d bytes) and is left out',
                    self.ARCHIVE.filename, name, len(encoded))
    return False

  def _generate_examples(self) -> None:
    """Unused: `_split_generators` makes the generators itself."""
