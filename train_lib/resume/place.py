# SPDX-License-Identifier: Apache-2.0
"""Where in a run a checkpoint was written.

A task goes through `TRAINING`, `TRAINED` (the hooks after it have run, scores
are due) and `DONE` (scored, results recorded).
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

TRAINING, TRAINED, DONE = 'training', 'trained', 'done'


@dataclasses.dataclass(frozen=True)
class Place:
  """What a run has done; plain values only, so that it can be JSON.

  Attributes:
    task: index of the task at work, or of the last one if it is done.
    steps: optimizer steps made in this task.
    stage: of this task.
    seconds: that its training has taken.
    rows_per_step: over all devices and hosts; a step must stay what it is.
    events: `{name: bytes}` of the event files by then.
  """

  task: int
  steps: int = 0
  stage: str = DONE
  seconds: float = 0.0
  rows_per_step: int = 0
  events: Mapping[str, int] = dataclasses.field(default_factory=dict)

  def __str__(self) -> str:
    if self.stage == TRAINING:
      return f'in task {self.task}, after {self.steps} of its steps'
    return f'after task {self.task}'

  @property
  def next_task(self) -> int:
    """Index of the task to go on with."""
    return self.task + (self.stage == DONE)

  def plain(self) -> dict[str, Any]:
    """As a dictionary for JSON; `Place(**plain)` gives it back."""
    return {**dataclasses.asdict(self), 'events': dict(self.events)}
