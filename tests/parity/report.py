# SPDX-License-Identifier: Apache-2.0
"""Comparisons and the lines they print.  NumPy only."""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

import numpy as np

from tests.parity import tolerances

_HEAD = f'{"":5} {"array":52} {"abs. diff":>9} {"rel. diff":>9}  tolerance'


@dataclasses.dataclass(frozen=True)
class Difference:
  """Largest difference of two arrays.

  Attributes:
    absolute, relative: largest ones; the second over elements other than 0.
    share: largest difference in units of what is allowed; over 1 fails.
    problem: why nothing could be compared, or ''.
  """

  absolute: float = 0.0
  relative: float = 0.0
  share: float = 0.0
  problem: str = ''

  @property
  def passed(self) -> bool:
    return not self.problem and self.share <= 1.0


def difference(got: Any, want: Any, tolerance: tolerances.Tolerance
               ) -> Difference:
  """Compares arrays; NaN and infinities must stand at the same places."""
  got, want = np.asarray(got), np.asarray(want)
  if got.shape != want.shape:
    return Difference(
        problem=f'shape {list(got.shape)}, recorded {list(want.shape)}')
  if want.dtype == np.float32:  # ours may be a rounding more precise
    got = got.astype(np.float32)
  got, want = got.astype(np.float64), want.astype(np.float64)
  odd = ~np.isfinite(got) | ~np.isfinite(want)
  if not np.array_equal(got[odd], want[odd], equal_nan=True):
    return Difference(problem='NaN or infinity at other places')
  got, want = got[~odd], want[~odd]
  off = np.abs(got - want)
  if not off.size:
    return Difference()
  allowed = np.broadcast_to(tolerance.allowed(want), off.shape)
  with np.errstate(divide='ignore', invalid='ignore'):
    share = np.where(off == 0, 0.0, off / allowed)
    relative = np.where(want == 0, 0.0, off / np.abs(want))
  return Difference(
      float(off.max()), float(relative.max()), float(share.max()))


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Two arrays or trees that were compared, to be compared again.

  Attributes:
    got: {path: array}, copies; an array is a tree of one leaf named ''.  Only
      what lies in the memory of `recorded` is none: numbers that are compared
      with themselves still agree when these change.
    recorded: {name: array}, no copies.
    through: makes of `recorded` what is compared with `got`.
    tolerance: what is allowed.
  """

  got: Mapping[str, np.ndarray]
  recorded: Mapping[str, np.ndarray]
  through: Callable[[Mapping[str, np.ndarray]], Mapping[str, Any]]
  tolerance: tolerances.Tolerance

  def differences(self) -> dict[str, Difference]:
    """As the arrays are now; leaves of one side alone are a problem."""
    want, found = self.through(self.recorded), {}
    for path in sorted(want.keys() - self.got.keys()):
      found[path] = Difference(problem=f'no {path} here')
    for path in sorted(self.got.keys() - want.keys()):
      found[path] = Difference(problem=f'{path} not recorded')
    for path in sorted(self.got.keys() & want.keys()):
      found[path] = difference(self.got[path], want[path], self.tolerance)
    return found


class Report:
  """Lines about one file.

  Attributes:
    title: the file and its kind.
    comparisons: all that were made.
    failures: lines that say FAIL.
    notes: lines about recorded arrays that cannot be compared, and why.
  """

  def __init__(self, title: str, *, brief: bool = False):
    self.title = title
    self.comparisons: list[Comparison] = []
    self.failures: list[str] = []
    self.notes: list[str] = []
    self._brief = brief
    self._passed = 0
    self._worst = (0.0, '')
    print(f'== {title}')
    if not brief:
      print(_HEAD)

  @property
  def passed(self) -> bool:
    """Whether something was compared and nothing failed."""
    return bool(self._passed) and not self.failures

  def compare(self, name: str, got: Any, want: Any,
              tolerance: tolerances.Tolerance = tolerances.EXACT, *,
              through: Callable[[np.ndarray], Any] = lambda want: want,
              remark: str = '') -> None:
    """One line about one array, compared with `through(want)`."""
    found = self._differences(
        {'': got}, {'': want}, lambda tree: {'': through(tree[''])}, tolerance)
    self._line(name, found[''], tolerance, remark)

  def compare_tree(self, name: str, got: Mapping[str, Any],
                   want: Mapping[str, Any],
                   tolerance: tolerances.Tolerance = tolerances.EXACT, *,
                   through: Callable[[Any], Any] = lambda want: want) -> None:
    """One line about all leaves; names must be the same on both sides.

    Args:
      name: of the line.
      got: ours.
      want: recorded.
      tolerance: of every leaf.
      through: makes of `want` a tree with our names.
    """
    found = self._differences(got, want, through, tolerance)
    problems = [d.problem if d.problem.endswith(('here', 'recorded'))
                else f'{path}: {d.problem}'
                for path, d in found.items() if d.problem]
    worst = max(found, key=lambda path: found[path].share, default='')
    total = Difference(
        *(max((getattr(d, field) for d in found.values()), default=0.0)
          for field in ('absolute', 'relative', 'share')), '; '.join(problems))
    leaves = f'{len(found)} {"leaf" if len(found) == 1 else "leaves"}'
    if total.share > 1:
      leaves += f', worst {worst}'
    self._line(name, total, tolerance, leaves)

  def _differences(self, got: Any, want: Any, through: Any,
                   tolerance: tolerances.Tolerance) -> dict[str, Difference]:
    """Compares, and remembers what."""
    kept = {path: _apart(leaf, want) for path, leaf in got.items()}
    self.comparisons.append(Comparison(kept, want, through, tolerance))
    return self.comparisons[-1].differences()

  def check(self, name: str, held: bool, remark: str) -> None:
    """One line about a condition."""
    self._line(name, Difference(problem='' if held else 'does not hold'),
               tolerances.EXACT, remark)

  def fail(self, name: str, problem: str) -> None:
    """One line about something that could not be compared but should."""
    self._line(name, Difference(problem=problem), tolerances.EXACT, '')

  def note(self, name: str, remark: str) -> None:
    """One line about an array that is not compared by intention."""
    self.notes.append(name)
    if not self._brief:
      print(f'{"NOTE":5} {name:52} not compared: {remark}')

  def _line(self, name: str, found: Difference,
            tolerance: tolerances.Tolerance, remark: str) -> None:
    verdict = 'PASS' if found.passed else 'FAIL'
    numbers = found.problem or (
        f'{found.absolute:9.2e} {found.relative:9.2e}  {tolerance}')
    line = f'{verdict:5} {name:52} {numbers}' + (remark and f'  ({remark})')
    self._passed += found.passed
    if not found.passed:
      self.failures.append(line)
    if found.share > self._worst[0]:
      self._worst = (found.share, name)
    if not found.passed or not self._brief:
      print(line)

  def summary(self) -> str:
    """One line for the whole file."""
    share, name = self._worst
    text = (f'{"PASS" if self.passed else "FAIL":5} {self.title}: '
            f'{self._passed} passed, {len(self.failures)} failed')
    if self.notes:
      text += f', {len(self.notes)} not compared'
    if 0 < share < np.inf:
      text += f'; worst at {100 * share:.3g} % of its tolerance: {name}'
    return text


def _apart(leaf: Any, recorded: Mapping[str, Any]) -> np.ndarray:
  """A copy, unless the leaf lies in the memory of a recorded array."""
  leaf = np.asarray(leaf)
  same = any(np.may_share_memory(leaf, other) for other in recorded.values()
             if isinstance(other, np.ndarray))
  return leaf if same else leaf.copy()
