# SPDX-License-Identifier: Apache-2.0
"""The growth rule and the component scores of gradient projection."""

import numpy as np

from promptcl.train_lib.around import orthogonal
from promptcl.train_lib.around import subspace
from tests.parity import tolerances as tol
from tests.parity.fixture import Fixture
from tests.parity.ports import torch_bridge as bridge
from tests.parity.report import Report

_RANDOMISED = 'the randomised solver; its exact scores are compared'


def run(fixture: Fixture, report: Report) -> None:
  """Every sequence of calls, then every matrix of scores."""
  for number, case in enumerate(fixture.meta['cases']):
    _grow(fixture, report, f'c{number}', case)
  for number, case in enumerate(fixture.meta['pca']):
    _scores(fixture, report, f'pca{number}', case)


def _grow(fixture: Fixture, report: Report, name: str, case) -> None:
  """Calls one after the other; a basis is kept in float32 in between."""
  probe, basis, ranks = fixture[f'{name}/probe'], None, []
  for i, epsilon in enumerate(case['eps']):
    basis = subspace.grow(basis, fixture[f'{name}/S{i}'], epsilon)
    basis = basis.astype(np.float32)
    ranks.append(basis.shape[1])
    inside = basis @ basis.T
    if f'{name}/basis{i}' in fixture:
      report.compare(f'{name}/basis{i}', inside, fixture[f'{name}/basis{i}'],
                     tol.PROJECTION, through=bridge.products, remark='F F^T')
    if f'{name}/P{i}' in fixture:
      report.compare(f'{name}/P{i}', inside, fixture[f'{name}/P{i}'],
                     tol.PROJECTION)
    report.compare(f'{name}/projected{i}', orthogonal.outside(probe, basis),
                   fixture[f'{name}/projected{i}'], tol.FEATURES)
  report.compare(f'{name}: ranks', ranks, case['ranks'], remark=case['note'])


def _scores(fixture: Fixture, report: Report, name: str, case) -> None:
  got = subspace.scores(fixture[f'{name}/X'], case['k'])
  report.compare(f'{name}/scores_full', got, fixture[f'{name}/scores_full'],
                 tol.SCORES, remark=case['note'])
  if case['max_difference_from_exact'] > tol.SCORES.absolute:
    report.note(f'{name}/scores', _RANDOMISED)
  else:
    report.compare(f'{name}/scores', got, fixture[f'{name}/scores'], tol.SCORES)
