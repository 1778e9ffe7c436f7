# SPDX-License-Identifier: Apache-2.0
"""What is measured beside scores, kept with them in `Results.extras`."""

from collections.abc import Mapping

import numpy as np

from promptcl.train_lib.records import zero_shot_scores
from promptcl.train_lib.records.results import Results


def record(results: Results, task_index: int, shares: Mapping[str, float], *,
           prompt_per_task: bool) -> None:
  """Stores what is measured beside the recorded evaluation after a task.

  A share `NAME` becomes `NAME@t`, and the averages over tasks follow anew.

  Args:
    results: `Results` with the evaluation in it.
    task_index: t.
    shares: by name.
    prompt_per_task: prompt t is that of task t, so `Acc@task`, the mean over
      sets of how often their own task is chosen, is known.
  """
  shares, extras = dict(shares), results.extras
  if prompt_per_task and results.prompt_counts is not None and (
      len(results.eval_set_names) == results.num_tasks):
    own = np.diagonal(results.prompt_counts[task_index])[:task_index + 1]
    shares['Acc@task'] = float(np.mean(own / results.totals[:own.size]))
    extras['Acc@task'] = shares['Acc@task']
  extras |= {f'{name}@{task_index}': share for name, share in shares.items()}
  extras |= zero_shot_scores.summary(extras, results.num_tasks)


def of_task(extras: Mapping[str, float], task_index: int) -> dict[str, float]:
  """Those `NAME@t` of a task, under `NAME`."""
  return {key.rpartition('@')[0]: share for key, share in extras.items()
          if key.endswith(f'@{task_index}')}
