# SPDX-License-Identifier: Apache-2.0
"""The offline twins: looks of the digits, and files that the pipeline opens."""

import sys

import numpy as np
import pytest

from promptcl import configs
from promptcl import input_pipeline
from promptcl.tools import write_digit_sets
from promptcl.train_lib.startup import startup
from tests.helpers import fakes


@pytest.fixture
def digits():
  """Three training and two test digits of four grey levels."""
  rng = np.random.default_rng(0)
  image = lambda n: rng.integers(0, 256, (n, 8, 8)).astype(np.uint8)
  return {'train': (image(3), np.array([1, 0, 1], np.int32)),
          'test': (image(2), np.array([0, 1], np.int32))}


def test_looks_by_hand(digits):
  images, labels = digits['train']
  turned = write_digit_sets.look(digits, 'turned')
  # A quarter to the left: the last column becomes the first row.
  np.testing.assert_array_equal(turned['train_images'][0, 0, :, 0],
                                images[0, :, -1])
  inverted = write_digit_sets.look(digits, 'inverted')
  np.testing.assert_array_equal(inverted['train_images'][..., 0], 255 - images)
  np.testing.assert_array_equal(inverted['train_labels'], labels)
  blurred = write_digit_sets.look(digits, 'blurred')['train_images']
  assert blurred.std() < images.std()


def test_domains_are_the_looks_one_after_the_other(digits):
  arrays = write_digit_sets.domains(digits, ('plain', 'inverted'))
  assert arrays['train_images'].shape == (6, 8, 8, 1)
  np.testing.assert_array_equal(arrays['train_domains'], [0, 0, 0, 1, 1, 1])
  np.testing.assert_array_equal(arrays['test_labels'], [0, 1, 0, 1])
  np.testing.assert_array_equal(arrays['test_images'][2:],
                                255 - arrays['test_images'][:2])
  assert arrays['domain_names'].tolist() == ['plain', 'inverted']


def test_the_files_make_the_streams_of_their_recipes(tmp_path, monkeypatch):
  monkeypatch.setattr(sys, 'argv', ['', '--output', str(tmp_path)])
  write_digit_sets.main()

  def stream(recipe):
    config = configs.load(recipe)
    dataset = config.dataset.replace('npz:', f'npz:{tmp_path}/')
    config = fakes.changed(startup.expand(config), dataset=dataset)
    return input_pipeline.build(config, global_batch_size=16)

  domains = stream('digits_domain_l2p')
  assert [e.name for e in domains.eval_sets] == list(write_digit_sets.DOMAINS)
  assert domains.num_classes == 10 and all(
      task.num_examples == 1438 for task in domains.tasks)
  sequence = stream('digits_sequence_l2p')
  assert sequence.num_classes == 30
  assert [task.num_examples for task in sequence.tasks] == [1438] * 3
