# Copyright 2026 The JAX Continual Prompting Authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
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
