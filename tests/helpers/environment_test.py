# SPDX-License-Identifier: Apache-2.0
"""What tests share, and what they must not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from promptcl.train_lib.core import parallel
from tests.helpers import environment


def test_unlike_processors_share_no_compiled_programs(tmp_path, monkeypatch):
  kinds = []
  for flags in 'sse avx', 'sse avx avx512f':
    told = tmp_path / 'cpuinfo'
    told.write_text(''.join(
        f'processor\t: {i}\nmodel\t\t: 1\nflags\t\t: {flags}\ncpu MHz : {i}\n'
        for i in range(2)))
    monkeypatch.setattr(environment, '_CPUINFO', told)
    kinds.append(environment.processor())
    folder = environment.cache('/some/where')
    assert folder == f'/some/where/{kinds[-1]}'
    assert environment.cache(folder) == folder  # as child processes inherit it
  assert kinds[0] != kinds[1]
  monkeypatch.undo()
  assert jax.config.jax_compilation_cache_dir.endswith(environment.processor())


@pytest.fixture(name='cached')
def _cached(tmp_path):
  """An empty cache that takes everything; gives the hits so far."""
  from jax._src import compilation_cache  # pylint: disable=g-import-not-at-top
  keys = ('jax_compilation_cache_dir',
          'jax_persistent_cache_min_compile_time_secs')
  before, hits = {key: getattr(jax.config, key) for key in keys}, []
  note = lambda name, **unused: hits.append(name) if (
      name == '/jax/compilation_cache/cache_hits') else None
  for key, value in zip(keys, (str(tmp_path), 0), strict=True):
    jax.config.update(key, value)
  compilation_cache.reset_cache()
  jax.monitoring.register_event_listener(note)
  yield hits
  jax.monitoring.unregister_event_listener(note)
  for key, value in before.items():
    jax.config.update(key, value)
  compilation_cache.reset_cache()


def test_a_compiled_program_that_is_found_hides_no_second_trace(cached):
  """Whatever is stored, the shapes that one step sees are counted."""
  def step(x):
    return jnp.cumsum(jnp.sin(x) @ x.T)

  shapes = [np.ones((8, n, n), np.float32) for n in (3, 5)]
  for x in shapes:
    parallel.pmap(step)(x)
  jax.clear_caches()
  again, before = parallel.pmap(step), len(cached)
  again(shapes[0])
  assert len(cached) > before  # it was found
  with pytest.raises(RuntimeError, match='step was traced twice'):
    again(shapes[1])


def test_flags_of_the_shell_stay_but_for_those_that_tests_set(monkeypatch):
  monkeypatch.setenv('XLA_FLAGS', '--xla_a=1 --xla_cpu_use_fusion_emitters=true'
                     ' --xla_force_host_platform_device_count=3')
  assert environment.xla_flags(2, '--xla_b=4').split() == [
      '--xla_a=1', '--xla_force_host_platform_device_count=2',
      '--xla_cpu_use_fusion_emitters=false',
      '--xla_cpu_parallel_codegen_split_count=1', '--xla_b=4']
