# SPDX-License-Identifier: Apache-2.0
"""What a measurement was made on: card, driver, versions, date, revision."""

import datetime
import importlib.metadata
import os
import pathlib
import platform
import subprocess

import jax

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy')


def facts() -> dict[str, object]:
  """All of it; None for what this machine does not tell.

  Raises:
    ValueError: JAX finds none of the devices that it was told to use.
  """
  try:
    device = jax.local_devices()[0]
  except (AssertionError, RuntimeError) as e:  # it depends on JAX's version
    raise ValueError('JAX finds no device; JAX_PLATFORMS is '
                     f'{os.environ.get("JAX_PLATFORMS", "")!r}') from e
  return dict(
      card=device.device_kind, platform=device.platform,
      num_devices=jax.device_count(), driver=driver(),
      platform_version=' '.join(device.client.platform_version.split()),
      python=platform.python_version(),
      versions={name: version(name) for name in PACKAGES},
      system=platform.platform(), xla_flags=os.environ.get('XLA_FLAGS', ''),
      date=datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
      revision=revision())


def version(name: str) -> str | None:
  """The installed version of a package."""
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return None


def driver() -> str | None:
  """The version of NVIDIA's driver."""
  text = _output('nvidia-smi', '--query-gpu=driver_version',
                 '--format=csv,noheader')
  return text.splitlines()[0] if text else None


def revision() -> str | None:
  """The revision of this code, with `-dirty` where files were changed."""
  if _output('git', 'rev-parse', '--show-toplevel') != str(ROOT):
    return None  # files only, perhaps inside another repository
  return _output('git', 'describe', '--always', '--dirty', '--abbrev=12',
                 '--exclude=*')


def _output(*command: str) -> str | None:
  """What a command prints, or None where there is none or it fails."""
  try:
    done = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=20, check=True)
  except (OSError, subprocess.SubprocessError):
    return None
  return done.stdout.strip() or None
