# SPDX-License-Identifier: Apache-2.0
"""Traces become a table of the dearest operations, whatever the device."""

import pytest

from benchmarks import operations


def _instruction(name, block):
  place = f'jit(_fun)/jvp(M)/encoderblock_{block}/Mlp_0/add'
  return (f'  %{name} = f32[8]{{0}} fusion(%a), kind=kLoop, calls=%f, '
          f'metadata={{op_name="{place}" stack_frame_id=4}}\n')


TEXT = ('ENTRY %main (a: f32[8]) -> f32[8] {\n' + _instruction('fusion.1', 3)
        + _instruction('fusion.2', 11)
        + '  ROOT %copy.3 = f32[8]{0} copy(%fusion.2)\n}\n')


def _names(pid, process, **threads):
  return [dict(ph='M', pid=pid, name='process_name', args={'name': process}), *(
      dict(ph='M', pid=pid, tid=int(tid[1:]), name='thread_name',
           args={'name': name}) for tid, name in threads.items())]


def _event(pid, tid, start, end, name, **args):
  return dict(ph='X', pid=pid, tid=tid, ts=start, dur=end - start, name=name,
              args=args)


HOST = [*_names(1, '/host:CPU', t7='tf_XLAEigen/1', t8='python'),
        _event(1, 8, 0, 1000, 'PjitFunction'),
        _event(1, 7, 0, 5, 'fusion.1', hlo_op='fusion.1')]
GPU = [*_names(2, '/device:GPU:0', t1='Stream #13(Compute)',
               t2='XLA Modules'),
       _event(2, 2, 0, 100, 'jit__fun'),
       _event(2, 1, 0, 40, 'loop_add_fusion', hlo_op='fusion.1'),
       _event(2, 1, 40, 60, 'loop_add_fusion', hlo_op='fusion.2'),
       _event(2, 1, 60, 65, 'nvjet_gemm')]
TPU = [*_names(3, '/device:TPU:0', t1='XLA Ops', t2='Steps'),
       _event(3, 2, 0, 100, '7'),
       _event(3, 1, 0, 100, 'while.1'), _event(3, 1, 10, 40, 'fusion.1'),
       _event(3, 1, 40, 60, 'copy.3'), _event(3, 1, 100, 105, 'copy.3')]
BLOCKS = 'jvp(M)/encoderblock_*/Mlp_0/add'


def test_instructions_are_named_after_their_place_in_the_code():
  assert operations.places(TEXT) == {'fusion.1': BLOCKS, 'fusion.2': BLOCKS}


@pytest.mark.parametrize('events, expected', [
    (HOST, {BLOCKS: 5}),
    (HOST + GPU, {BLOCKS: 60, 'nvjet_gemm': 5}),
    # The loop has what its body leaves.
    (HOST + TPU, {'while.1': 50, BLOCKS: 30, 'copy.3': 25}),
    ([], {})])
def test_devices_are_added_up_and_hosts_only_where_they_compute(
    events, expected):
  found = operations.seconds(events, operations.places(TEXT))
  assert found == {k: pytest.approx(v / 1e6) for k, v in expected.items()}


def test_the_table_has_the_dearest_first():
  found = {'small': 1e-3, 'large': 6e-3, 'tiny': 1e-3}
  assert operations.table(found, 2, 2).splitlines() == [
      ' ms a step   share  operation',
      '     3.000   75.0%  large',
      '     0.500   12.5%  small',
      '     4.000  100.0%  all 3']
