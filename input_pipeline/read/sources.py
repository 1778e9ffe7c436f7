# SPDX-License-Identifier: Apache-2.0
"""Random access to the examples of one split: `len`, `image(i)`, `labels`."""

from collections.abc import Iterator, Sequence
import contextlib
import functools
from typing import Any, TYPE_CHECKING

import cv2
import numpy as np

from promptcl.input_pipeline.read.base import Source

if TYPE_CHECKING:
  import tensorflow_datasets as tfds

# The loader's threads each work on an image; OpenCV's would only fight them.
cv2.setNumThreads(0)

# Grey pictures get three channels; EXIF rotation is ignored, as TFDS does.
_DECODE = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
# Records read at a time when only their labels are wanted.
_LABEL_CHUNK = 8192
Numbers = Sequence[int] | np.ndarray


def decode(encoded: bytes) -> np.ndarray | None:
  """uint8 [h, w, 3] in RGB order, or None where the bytes are no picture."""
  try:
    return cv2.imdecode(np.frombuffer(encoded, np.uint8), _DECODE)
  except cv2.error:  # for instance, nothing to decode
    return None


class ArraySource:
  """Examples that are already in memory.

  Attributes:
    labels: int32 [N].
    domains: int32 [N] or None.
  """

  def __init__(self, images: np.ndarray, labels: np.ndarray,
               domains: np.ndarray | None = None):
    """Takes uint8 [N, h, w, 1 or 3], integer [N] and integer [N] or None."""
    self._images = images
    self.labels = labels.astype(np.int32)
    self.domains = None if domains is None else domains.astype(np.int32)

  def __len__(self) -> int:
    return len(self._images)

  def image(self, index: int) -> np.ndarray:
    """uint8 [h, w, 3]; one channel is repeated."""
    image = self._images[index]
    return image if image.shape[-1] == 3 else np.repeat(image, 3, axis=-1)


class FileSource:
  """Pictures in files of their own, read and decoded when asked for.

  Attributes:
    labels: int32 [N].
    domains: int32 [N] or None.
  """

  def __init__(self, paths: Sequence[str], labels: Numbers,
               domains: Numbers | None = None):
    """Takes N paths, integer [N] and integer [N] or None."""
    self._paths = paths
    self.labels = np.asarray(labels, np.int32)
    self.domains = None if domains is None else np.asarray(domains, np.int32)

  def __len__(self) -> int:
    return len(self._paths)

  def image(self, index: int) -> np.ndarray:
    """uint8 [h, w, 3].

    Raises:
      FileNotFoundError: the file has gone since the folder was listed.
      ValueError: it does not decode.
    """
    path = self._paths[index]
    try:
      with open(path, 'rb') as f:
        encoded = f.read()
    except FileNotFoundError as e:
      raise FileNotFoundError(f'{path} has gone since the start') from e
    image = decode(encoded)
    if image is None:
      raise ValueError(f'{path} does not decode ({len(encoded)} bytes); '
                       'replace or remove it')
    return image


class TfdsSource:
  """One split of a prepared TFDS data set, decoded an image at a time."""

  def __init__(self, builder: 'tfds.core.DatasetBuilder', split: str):
    """Takes a builder whose data are prepared as ArrayRecord files."""
    import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top
    self._name = f'{builder.info.full_name} {split}'
    features = builder.info.features
    # Of other pictures, such as segmentations, nothing is wanted at all.
    pictures = [key for key, feature in features.items()
                if isinstance(feature, tfds.features.Image)]
    self._has_domains = 'domain' in features
    skip = {key: tfds.decode.SkipDecoding() for key in pictures}
    with self._explain_damage():
      self._records = builder.as_data_source(split, decoders=skip)
      self._length = len(self._records)

  def __len__(self) -> int:
    return self._length

  def image(self, index: int) -> np.ndarray:
    """uint8 [h, w, 3].

    Args:
      index: row of the split.

    Raises:
      ValueError: the stored picture cannot be read or does not decode.
    """
    with self._explain_damage():
      encoded = self._records[index]['image']
    image = decode(encoded)
    if image is None:
      raise ValueError(f'{self._name}: image {index} does not decode '
                       f'({len(encoded)} bytes); prepare the data set anew')
    return image

  @property
  def labels(self) -> np.ndarray:
    """int32 [N]."""
    return self._numbers['label']

  @property
  def domains(self) -> np.ndarray | None:
    """int32 [N], or None where records have no feature of that name."""
    return self._numbers['domain'] if self._has_domains else None

  def names(self, key: str) -> tuple[str, ...]:
    """Text feature `key` of the classes 0, 1, ..., from one pass."""
    texts = {int(e['label']): e[key].decode() for e in self._examples()}
    return tuple(texts[label] for label in sorted(texts))

  @functools.cached_property
  def _numbers(self) -> dict[str, np.ndarray]:
    """{key: int32 [N]}, from one pass over the records."""
    keys = ('label', 'domain') if self._has_domains else ('label',)
    numbers = {key: np.empty(len(self), np.int32) for key in keys}
    for row, example in enumerate(self._examples()):
      for key in keys:
        numbers[key][row] = example[key]
    return numbers

  def _examples(self) -> Iterator[dict[str, Any]]:
    """All records, without their pictures' pixels."""
    for start in range(0, len(self), _LABEL_CHUNK):
      rows = range(start, min(start + _LABEL_CHUNK, len(self)))
      with self._explain_damage():
        yield from self._records.__getitems__(rows)

  @contextlib.contextmanager
  def _explain_damage(self) -> Iterator[None]:
    try:
      yield
    except (RuntimeError, OSError, IndexError) as e:  # of ArrayRecord
      reason = ' '.join(f'{type(e).__name__}: {e}'.split())[:150]
      raise ValueError(f'{self._name}: the stored files cannot be read '
                       f'({reason}); delete and prepare them anew') from e


class RelabelledSource:
  """A source whose labels are numbered anew."""

  def __init__(self, source: Source, old_labels: Sequence[int]):
    """Takes a source and the old label of each new one, ascending."""
    self._source = source
    self._old_labels = np.asarray(old_labels)

  def __len__(self) -> int:
    return len(self._source)

  def image(self, index: int) -> np.ndarray:
    """uint8 [h, w, 3]."""
    return self._source.image(index)

  @functools.cached_property
  def labels(self) -> np.ndarray:
    """int32 [N].

    Raises:
      ValueError: the source has a label without a new number.
    """
    old = self._source.labels
    strange = np.setdiff1d(old, self._old_labels)
    if strange.size:
      raise ValueError(f'the stored data have unexpected labels, such as '
                       f'{strange[0]}; prepare the data set anew')
    return np.searchsorted(self._old_labels, old).astype(np.int32)

  @property
  def domains(self) -> np.ndarray | None:
    """Those of the source."""
    return self._source.domains


class JoinedSource:
  """Sources one after the other."""

  def __init__(self, members: Sequence[Source], *,
               offsets: Sequence[int] | None = None,
               number_domains: bool = False):
    """Joins sources.

    Args:
      members: sources.
      offsets: added to the labels of each; None adds nothing.
      number_domains: whether each member is a domain; otherwise there are none.
    """
    self._members = members
    self._offsets = offsets or [0] * len(members)
    self._starts = np.cumsum([0, *map(len, members)])
    self._number_domains = number_domains

  def __len__(self) -> int:
    return int(self._starts[-1])

  def image(self, index: int) -> np.ndarray:
    """uint8 [h, w, 3], of the size it has in its own source."""
    member = int(np.searchsorted(self._starts, index, side='right')) - 1
    return self._members[member].image(int(index - self._starts[member]))

  @functools.cached_property
  def labels(self) -> np.ndarray:
    """int32 [N]."""
    return np.concatenate([
        member.labels + np.int32(offset)
        for member, offset in zip(self._members, self._offsets, strict=True)])

  @functools.cached_property
  def domains(self) -> np.ndarray | None:
    """int32 [N], the member's number, or None."""
    if not self._number_domains:
      return None
    numbers = np.arange(len(self._members), dtype=np.int32)
    return np.repeat(numbers, np.diff(self._starts))
