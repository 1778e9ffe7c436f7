# SPDX-License-Identifier: Apache-2.0
"""From counts of right images to the numbers that `zero_shot.py` explains."""

from collections.abc import Mapping

import numpy as np

DIFFERENCE = 'ZS_logit_difference'
KINDS = ('before', 'strict', 'routed')
_HEADLINE = ('ZS_before', 'ZS_strict', 'ZS_routed', 'dZS')


def shares(counts: Mapping[str, float], suffix: str = '') -> dict[str, float]:
  """Named shares from the counts of a set, as far as there are any."""
  values = {}
  if counts['total']:
    values = {f'ZS_{kind}': counts[kind] / counts['total'] for kind in KINDS}
    values['dZS'] = values['ZS_routed'] - values['ZS_before']
    if counts['seen']:
      parts = [counts['open_seen'] / counts['seen'],
               counts['open_unseen'] / counts['total']]
      values |= {'Open_seen': parts[0], 'Open_unseen': parts[1],
                 'Open-H': 2 * parts[0] * parts[1] / max(sum(parts), 1e-12)}
  return {name + suffix: value for name, value in values.items()}


def summary(extras: Mapping[str, float], num_tasks: int) -> dict[str, float]:
  """Names without a task, from those `NAME@t` of all tasks."""
  early = {name: values for name in (*_HEADLINE, 'Open-H') if (values := [
          extras[key] for t in range(num_tasks - 1)
          if (key := f'{name}@{t}') in extras])}
  averages = {name: float(np.mean(values)) for name, values in early.items()}
  if 'ZS_routed' in averages:
    averages |= {'Transfer': averages['ZS_routed'],
                 'Transfer_before': averages['ZS_before']}
  for name in _HEADLINE:
    values = [value for key, value in extras.items() if key.startswith(
        f'{name}:') and key.endswith(f'@{num_tasks - 1}')]
    if values:
      averages[name] = float(np.mean(values))
  differences = [value for key, value in extras.items()
                 if key.startswith(f'{DIFFERENCE}@')]
  if differences:
    averages[DIFFERENCE] = max(differences)
  return averages
