# SPDX-License-Identifier: Apache-2.0
"""Data sets that are only tested on, beside the one that is learned."""

import ml_collections
import numpy as np

from promptcl.input_pipeline import pipeline
from promptcl.input_pipeline.read import datasets
from promptcl.input_pipeline.streams import task_stream


def held_out_config(config: ml_collections.ConfigDict, name: str
                    ) -> ml_collections.FrozenConfigDict:
  """The configuration with another data set in it, classes as stored."""
  changed = ml_collections.ConfigDict(config)
  changed.dataset, changed.split_files = name, ()
  return ml_collections.FrozenConfigDict(changed)


def build_held_out(config: ml_collections.ConfigDict, name: str, **options: int
                   ) -> pipeline.TaskStream:
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
