# SPDX-License-Identifier: Apache-2.0
"""Kind of a file -> the function that runs it."""

import importlib
import traceback

import jax

from tests.parity import fixture as fixture_lib
from tests.parity import parts
from tests.parity import report as report_lib

# Module and function; modules are imported when needed, some are slow to.
_RUN = {
    'continual metrics': ('plain', 'run_metrics'),
    'learning-rate schedule': ('plain', 'run_rates'),
    'Gaussian schedule': ('plain', 'run_gaussian'),
    'preprocessing': ('pictures', 'run'),
    'pretrained loading': ('pretrained', 'run'),
    'forward passes': ('forward', 'run'),
    'train steps': ('training', 'run'),
    'evaluation': ('evaluation', 'run'),
    'several tasks': ('tasks', 'run'),
    'timm ViT': ('ports.torch_vit', 'run'),
    'forward passes of a port': ('ports.torch_forward', 'run'),
    'bases of gradient projection': ('ports.torch_basis', 'run'),
    'gradient projection': ('ports.torch_pgp', 'run'),
    'tokens of CLIP': ('ports.clip_tokens', 'run'),
    'gradient projection on CLIP': ('ports.torch_clip', 'run'),
    'prompts of VQ-Prompt': ('ports.torch_vq', 'run_forward'),
    'tasks of VQ-Prompt': ('ports.torch_vq', 'run_train'),
    're-balancing': ('ports.torch_rebalance', 'run'),
}


def run(fixture: fixture_lib.Fixture, *, brief: bool = False
        ) -> report_lib.Report:
  """Runs a file and compares; an array that nothing looked at is a failure."""
  report = report_lib.Report(f'{fixture.path.name} ({fixture.kind})',
                             brief=brief)
  module, function = _RUN[fixture.kind]
  module = importlib.import_module(f'{__package__}.{module}')
  try:
    with jax.default_matmul_precision('highest'), parts.shared():
      getattr(module, function)(fixture, report)
  except Exception as e:  # pylint: disable=broad-exception-caught
    # Whatever stops one file must not keep the others from being run.
    frame = traceback.extract_tb(e.__traceback__)[-1]
    report.fail('run', f'{type(e).__name__} at {frame.filename}:'
                f'{frame.lineno}: {" ".join(str(e).split())}')
    return report
  for name in fixture.unused():
    if name not in report.notes:
      report.fail(name, 'recorded, but nothing here compares it')
  return report
