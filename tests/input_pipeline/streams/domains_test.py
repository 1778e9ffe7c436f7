# SPDX-License-Identifier: Apache-2.0
"""Domain-incremental streams: the same classes, one task per domain."""

import numpy as np
import pytest

from promptcl.input_pipeline.read import datasets
from promptcl.input_pipeline.streams import scenarios
from tests.input_pipeline import small_data

NAMES = ('paint', 'photo', 'sketch')


@pytest.fixture
def settings(npz, arrays):
  """Makes a data set with domains; gives the settings for `build`.

  Row r is of domain r % 3 unless arrays say otherwise.
  """
  def make(names=NAMES, train=None, test=None, **changes):
    count = len(arrays['train_labels']), len(arrays['test_labels'])
    domains = [np.arange(n) % 3 if given is None else given
               for n, given in zip(count, (train, test), strict=True)]
    name = npz(train_domains=domains[0], test_domains=domains[1],
               domain_names=np.array(names))
    return {'dataset': name, 'continual.scenario': 'domain', **changes}
  return make


class TestSharedOutputs:

  def test_tasks_and_evaluation_sets(self, build, settings):
    stream = build(**settings())
    assert stream.num_classes == 6
    assert [e.name for e in stream.eval_sets] == list(NAMES)
    assert [t.eval_sets for t in stream.tasks] == [(0,), (0, 1), (0, 1, 2)]
    pairs = zip(stream.tasks, stream.eval_sets, strict=True)
    for d, (task, eval_set) in enumerate(pairs):
      np.testing.assert_array_equal(task.train_indices, range(d, 30, 3))
      np.testing.assert_array_equal(eval_set.indices, range(d, 24, 3))
      assert task.class_mask.all() and eval_set.class_mask.all()
      assert task.classes == tuple(range(6))
      for row, label, column in small_data.pictures(stream.batches(task)):
        assert row % 3 == d and stream.class_order[column] == label

  def test_listed_order(self, build, settings):
    stream = build(**settings(**{
        'continual.domain_order': ('sketch', 'paint', 'photo'),
        'continual.rand_seed': 2}))
    assert [e.name for e in stream.eval_sets] == ['sketch', 'paint', 'photo']
    assert [t.train_indices[0] for t in stream.tasks] == [2, 0, 1]
    np.testing.assert_array_equal(
        stream.class_order, np.random.default_rng(2).permutation(6))

  def test_reversed(self, build, settings):
    stream = build(**settings(reverse_task=True))
    assert [e.name for e in stream.eval_sets] == list(NAMES[::-1])
    assert [t.train_indices[0] for t in stream.tasks] == [2, 1, 0]
    np.testing.assert_array_equal(stream.class_order, range(6))

  def test_a_name_without_images_is_no_task(self, build, settings):
    stream = build(**settings(names=(*NAMES, 'clipart')))
    assert [e.name for e in stream.eval_sets] == list(NAMES)

  def test_joint(self, build, settings):
    stream = build(**settings()).joint()
    assert stream.tasks[0].num_examples == 30
    assert [e.name for e in stream.eval_sets] == list(NAMES)


class TestTestDomains:

  def test_others_than_those_of_training_are_one_set(self, build, settings):
    """CORe50: sessions 0 to 2 train, 3 and 4 test."""
    stream = build(**settings(names=('s1', 's2', 's4', 's3', 's7'),
                              test=3 + np.arange(24) % 2))
    assert len(stream.tasks) == 3
    assert [t.eval_sets for t in stream.tasks] == [(0,)] * 3
    eval_set, = stream.eval_sets
    np.testing.assert_array_equal(eval_set.indices, range(24))
    assert eval_set.name == 'all' and eval_set.class_mask.all()

  def test_a_test_split_that_does_not_say(self, settings, make_config):
    config = make_config(**settings())
    dataset = datasets.load(config)
    dataset.test.domains = None
    plan = scenarios.plan(config, dataset)
    assert [e.num_examples for e in plan.eval_sets] == [24]
    assert [t.eval_sets for t in plan.tasks] == [(0,)] * 3

  def test_some_of_them_are_missing(self, build, settings):
    test = np.arange(24) % 2
    with pytest.raises(ValueError, match=r"\['sketch'\] have images in one"):
      build(**settings(test=test))


class TestSeparateOutputs:

  def test_every_domain_has_columns_of_its_own(self, build, settings):
    stream = build(**settings(**{
        'continual.domain_outputs': 'separate',
        'continual.domain_order': ('sketch', 'paint', 'photo'),
        'continual.class_order': (5, 4, 3, 2, 1, 0)}))
    assert stream.num_classes == 18
    assert sorted(stream.class_order) == list(range(18))
    pairs = zip(stream.tasks, stream.eval_sets, strict=True)
    for t, (task, eval_set) in enumerate(pairs):
      columns = np.flatnonzero(task.class_mask)
      np.testing.assert_array_equal(columns, range(6 * t, 6 * t + 6))
      np.testing.assert_array_equal(eval_set.class_mask, task.class_mask)
      domain = (2, 0, 1)[t]
      found = [*small_data.pictures(stream.batches(task)),
               *small_data.pictures(stream.eval_batches(eval_set))]
      for row, label, column in found:
        assert row % 3 == domain
        assert column == 6 * t + 5 - label
        assert stream.class_order[column] == 6 * domain + label
        assert stream.class_names[column] == f'{NAMES[domain]}/class {label}'

  def test_numbers_follow_the_domains_that_train(self, build, settings):
    stream = build(**settings(
        names=('none', *NAMES), train=1 + np.arange(30) % 3,
        test=1 + np.arange(24) % 3,
        **{'continual.domain_outputs': 'separate'}))
    np.testing.assert_array_equal(stream.class_order, range(18))
    assert stream.class_names[0] == 'paint/class 0'

  def test_without_test_images_of_these_domains(self, build, settings):
    with pytest.raises(ValueError, match="'separate' needs test images"):
      build(**settings(names=(*NAMES, 'other'), test=np.full(24, 3),
                       **{'continual.domain_outputs': 'separate'}))

  def test_joint_keeps_the_columns(self, build, settings):
    stream = build(**settings(**{'continual.domain_outputs': 'separate'}))
    joint = stream.joint()
    assert joint.num_classes == 18 and joint.tasks[0].class_mask.all()
    for row, label, column in small_data.pictures(
        joint.batches(joint.tasks[0])):
      assert column == 6 * (row % 3) + label


class TestFailures:

  @pytest.mark.parametrize('order, message', [
      (('paint', 'photo'), r"has \['sketch'\] as well"),
      (('paint', 'photo', 'sketch', 'clipart'), r"no .* of \['clipart'\]"),
      (('paint', 'photo', 'photo', 'sketch'), 'wants each once')])
  def test_order_that_does_not_fit(self, build, settings, order, message):
    with pytest.raises(ValueError, match=message) as error:
      build(**settings(**{'continual.domain_order': order}))
    assert '\n' not in str(error.value)
    assert 'list each of paint, photo, sketch' in str(error.value)

  def test_data_without_domains(self, build):
    with pytest.raises(ValueError, match='needs a data set with domains'):
      build(**{'continual.scenario': 'domain'})

  def test_a_domain_outside_the_used_part(self, build, settings):
    with pytest.raises(ValueError, match="'sketch' .* no train .* the 15 ex"):
      build(**settings(train=np.repeat(np.arange(3), 10), subsample_rate=50))


def test_real_pictures_in_four_styles(shared, make_config):
  config = make_config(dataset=f'npz:{shared}/data/pacs.npz',
                       **{'continual.scenario': 'domain'})
  plan = scenarios.plan(config, datasets.load(config))
  assert [e.name for e in plan.eval_sets] == [
      'art_painting', 'cartoon', 'photo', 'sketch']
  assert [t.num_examples for t in plan.tasks] == [70] * 4
  assert [e.num_examples for e in plan.eval_sets] == [42] * 4
  assert plan.class_order.size == 7
