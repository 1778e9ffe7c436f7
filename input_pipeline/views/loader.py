# SPDX-License-Identifier: Apache-2.0
"""Batches made ahead of time, in threads (Grain), always in the same order."""

from collections.abc import Callable, Iterator

from promptcl.input_pipeline.streams import task_stream

Read = Callable[[int], task_stream.Row]
# Batches of examples that may wait, ready, for the consumer.
_PREFETCH = 2


def load(read: Read, num_batches: int, *, batch_size: int, num_threads: int
         ) -> Iterator[task_stream.Batch]:
  """Stacks `read(0)`, `read(1)`, ... into batches.

  An exception of `read` surfaces, unchanged, where its batch is asked for.
  Threads end with the iterator, also when it is dropped half-way.

  Args:
    read: pure function of the row number -> dict of arrays.
    num_batches: how many batches; 0 or less is none.
    batch_size: rows per batch.
    num_threads: that call `read`; 0 reads when a batch is asked for.

  Returns:
    Iterator of dicts of arrays [batch_size, ...].
  """
  if num_batches <= 0:
    return iter(())
  import grain  # pylint: disable=g-import-not-at-top
  rows = grain.MapDataset.source(_Rows(read, num_batches * batch_size))
  options = grain.ReadOptions(
      num_threads=num_threads,
      prefetch_buffer_size=_PREFETCH * batch_size if num_threads else 0)
  return iter(rows.to_iter_dataset(options).batch(batch_size))


class _Rows:
  """A random-access source over a function of the row number."""

  def __init__(self, read: Read, length: int):
    self._read = read
    self._length = length

  def __len__(self) -> int:
    return self._length

  def __getitem__(self, row: int) -> task_stream.Row:
    return self._read(row)
