# SPDX-License-Identifier: Apache-2.0
"""What tests of replay do with a stream of pictures of one colour each."""

import numpy as np

TASKS = 3  # of two classes and ten pictures each, see conftest.py


def rows(batch):
  """Which row of the training split each picture is."""
  return np.rint(batch['image'][:, 0, 0, 0] * 255).astype(int)


def play(stream, num_tasks=TASKS, review=False):
  """All batches of some tasks: [task][step]."""
  tasks = []
  for task in stream.tasks[:num_tasks]:
    tasks.append(list(stream.batches(task)))
    stream.end_task(task)
    if review:
      tasks[-1] += stream.review_batches(task)
  return tasks


def assert_equal(batches, others):
  for batch, other in zip(batches, others, strict=True):
    assert batch.keys() == other.keys()
    for key in batch:
      np.testing.assert_array_equal(batch[key], other[key], key)
