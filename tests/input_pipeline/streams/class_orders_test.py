# SPDX-License-Identifier: Apache-2.0
"""Class orders by every rule, and how classes divide into tasks."""

import dataclasses

import numpy as np
import pytest

from promptcl.input_pipeline.read import datasets
from promptcl.input_pipeline.streams import class_orders


class TestClassOrder:

  def test_ascending(self, make_config):
    order = class_orders.class_order(make_config(), 6)
    np.testing.assert_array_equal(order, range(6))

  # The first ten labels of CIFAR-100: PILOT, LibContinual, CODA-Prompt.
  @pytest.mark.parametrize('rule, seed, first', [
      ('numpy_legacy', 1993, [68, 56, 78, 8, 23, 84, 90, 65, 74, 76]),
      ('numpy_legacy', 2, [83, 30, 56, 24, 16, 23, 2, 27, 28, 13]),
      ('python', 1, [53, 37, 65, 51, 4, 20, 38, 9, 10, 81]),
      ('python', 2, [0, 76, 61, 63, 1, 71, 2, 6, 16, 19])])
  def test_those_of_other_code_bases(self, make_config, rule, seed, first):
    config = make_config(**{'continual.rand_seed': seed,
                            'continual.order_rule': rule})
    order = class_orders.class_order(config, 100)
    assert order[:10].tolist() == first
    assert sorted(order) == list(range(100))

  def test_our_own(self, make_config):
    config = make_config(**{'continual.rand_seed': 3})
    order = class_orders.class_order(config, 6)
    np.testing.assert_array_equal(
        order, np.random.default_rng(3).permutation(6))
    np.testing.assert_array_equal(order, class_orders.class_order(config, 6))

  @pytest.mark.parametrize('rule', class_orders.RULES)
  def test_no_rule_disturbs_the_random_numbers_of_others(
      self, make_config, rule):
    np.random.seed(0)
    expected = np.random.random(2)
    np.random.seed(0)
    before = np.random.random()
    class_orders.class_order(make_config(**{
        'continual.rand_seed': 1, 'continual.order_rule': rule}), 6)
    assert [before, np.random.random()] == expected.tolist()

  def test_listed(self, make_config):
    config = make_config(**{'continual.class_order': (3, 0, 5, 1, 4, 2)})
    order = class_orders.class_order(config, 6)
    assert order.tolist() == [3, 0, 5, 1, 4, 2]

  @pytest.mark.parametrize('listed, lacks', [
      ((0, 1, 2, 3, 4), r'5 entries and lacks \[5\]'),
      ((0, 1, 2, 3, 4, 4), r'6 entries and lacks \[5\]'),
      ((0, 1, 2, 3, 4, 5, 5), '7 entries and lacks none'),
      ((1, 2, 3, 4, 5, 6), r'lacks \[0\]')])
  def test_listed_but_no_permutation(self, make_config, listed, lacks):
    config = make_config(**{'continual.class_order': listed})
    with pytest.raises(ValueError, match=f'class_order .*{lacks}') as error:
      class_orders.class_order(config, 6)
    assert '\n' not in str(error.value)


class TestTaskSizes:

  @pytest.mark.parametrize('first, step, count, sizes', [
      (50, 10, 100, [50] + [10] * 5),  # B50-inc10
      (50, 5, 100, [50] + [5] * 10),
      (10, 10, 100, [10] * 10),  # PILOT's B0-inc10
      (100, 5, 200, [100] + [5] * 20),
      (40, 25, 100, [40, 25, 25, 10]),  # the last one takes what remains
      (2, 3, 6, [2, 3, 1]),
      (3, 9, 6, [3, 3]),
      (6, 1, 6, [6])])
  def test_a_first_task_of_its_own_size(
      self, make_config, first, step, count, sizes):
    config = make_config(**{'continual.init_cls': first,
                            'continual.inc_cls': step})
    assert class_orders.task_sizes(config, count) == sizes
    assert len(sizes) == 1 + -(-(count - first) // step)

  def test_larger_than_the_data_set(self, make_config):
    config = make_config(**{'continual.init_cls': 7, 'continual.inc_cls': 1})
    with pytest.raises(ValueError, match='init_cls=7 .* 6 classes'):
      class_orders.task_sizes(config, 6)

  @pytest.mark.parametrize('tasks, width', [(4, 2), (2, 2), (0, 6), (6, -1)])
  def test_classes_do_not_divide(self, make_config, tasks, width):
    config = make_config(**{'continual.num_tasks': tasks,
                            'continual.num_classes_per_task': width})
    with pytest.raises(ValueError, match='6 classes of .* do not divide'):
      class_orders.task_sizes(config, 6)


class TestClassGroups:

  def _groups(self, config, **changes):
    dataset = dataclasses.replace(datasets.load(config), **changes)
    groups = class_orders.class_groups(config, dataset)
    return [group.tolist() for group in groups]

  def test_reversed_by_task(self, make_config):
    config = make_config(reverse_task=True)
    assert self._groups(config) == [[4, 5], [2, 3], [0, 1]]

  def test_unequal(self, make_config):
    config = make_config(**{
        'continual.init_cls': 3, 'continual.inc_cls': 2,
        'continual.class_order': (5, 4, 3, 2, 1, 0)})
    assert self._groups(config) == [[5, 4, 3], [2, 1], [0]]

  def test_members_of_a_sequence(self, make_config):
    config = make_config(**{'continual.scenario': 'dataset'})
    assert self._groups(config, groups=((0,), (1, 2, 3), (4, 5))) == [
        [0], [1, 2, 3], [4, 5]]

  def test_members_in_a_drawn_order(self, make_config):
    config = make_config(**{'continual.scenario': 'dataset',
                            'continual.rand_seed': 0})
    groups = ((0,), (1, 2, 3), (4, 5))
    assert np.random.default_rng(0).permutation(3).tolist() == [2, 0, 1]
    assert self._groups(config, groups=groups) == [[4, 5], [0], [1, 2, 3]]

  def test_no_sequence(self, make_config):
    config = make_config(**{'continual.scenario': 'dataset'})
    with pytest.raises(ValueError, match='npz.* is a single one; join'):
      self._groups(config)
