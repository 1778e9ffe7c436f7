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
"""Data sets that are only tested on, beside the one that is learned."""

import ml_collections
import numpy as np

from input_pipeline import datasets
from input_pipeline import pipeline
from input_pipeline import task_stream


def held_out_config(config, name):
  """The configuration with another data set in it, classes as stored."""
  changed = ml_collections.ConfigDict(config)
  changed.dataset, changed.split_files = name, ()
  return ml_collections.FrozenConfigDict(changed)


def build_held_out(config, name, **options):
  """All test images of a data set as a single evaluation set.

  Args:
    config: expanded; says how images are prepared.
    name: of the data set, as in `config.dataset`.
    **options: of `pipeline.TaskStream`.

  Returns:
    A `TaskStream` of one task, its classes in the order of the labels.

  Raises:
    ValueError, FileNotFoundError: see `datasets.load`.
  """
  config = held_out_config(config, name)
  dataset = datasets.load(config)
  rows = [[np.arange(len(task_stream.used(config, split.labels)))]
          for split in (dataset.train, dataset.test)]
  plan = task_stream.make_plan(
      dataset, np.arange(dataset.num_classes),
      masks=[np.ones(dataset.num_classes, bool)], train=rows[0], test=rows[1],
      names=[name])
  return pipeline.TaskStream(config, plan, **options)
