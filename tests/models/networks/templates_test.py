# SPDX-License-Identifier: Apache-2.0
"""Sentences about classes."""

import pytest

from promptcl.models.networks import templates


@pytest.mark.parametrize('name, words', [
    ('maple_tree', 'maple tree'), ('apple', 'apple'),
    ('black_footed_albatross', 'black footed albatross'),
    ('crane (n02012849)', 'crane'),
    ('kite (bird of prey)', 'kite (bird of prey)'),
    (' two__blanks ', 'two blanks')])
def test_names_as_words(name, words):
  assert templates.words(name) == words


def test_every_data_set_has_as_many_as_published():
  sizes = {name: len(set(found))
           for name, found in templates.ENSEMBLES.items()}
  assert sizes == {'cifar10': 18, 'cifar100': 18, 'cub200': 1,
                   'imagenet_r': 80, 'tinyimagenet': 80}
  for found in templates.ENSEMBLES.values():
    assert all(t.count('{}') == 1 and t.endswith('.') for t in found)
  assert {'a photo of the big {}.', 'a low contrast photo of a {}.'} <= set(
      templates.ENSEMBLES['cifar100'])
  # The seven that OpenAI's notebook recommends are among the eighty.
  assert {'itap of a {}.', 'a bad photo of the {}.', 'a origami {}.',
          'a photo of the large {}.', 'a {} in a video game.', 'art of the {}.',
          'a photo of the small {}.'} <= set(templates.ENSEMBLES['imagenet_r'])


@pytest.mark.parametrize('dataset, single', [
    ('cifar100', 'a photo of a {}.'), ('cub200',
                                       'a photo of a {}, a type of bird.'),
    ('npz:/x.npz', 'a photo of a {}.')])
def test_single_templates(dataset, single):
  assert templates.of_dataset(dataset, ensemble=False) == (single,)
  assert single in templates.of_dataset(dataset, ensemble=True)


def test_sentences_by_hand():
  assert templates.sentences(['oak_tree', 'sea'], ['a {}.', 'my {}']) == [
      ['a oak tree.', 'my oak tree'], ['a sea.', 'my sea']]
  for template in 'a photo', '{} and {}':
    with pytest.raises(ValueError, match='must have {} once'):
      templates.sentences(['sea'], [template])
