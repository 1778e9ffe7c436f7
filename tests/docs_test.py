# SPDX-License-Identifier: Apache-2.0
"""What the documentation names must be there."""

import re


def test_the_tests_that_show_what_repeats_exist(repository):
  page = (repository / 'docs/reproducibility.md').read_text()
  named = re.findall(r'`(tests/[\w/]+\.py)?::(?:\w+::)?(test_\w+)`', page)
  assert len(named) > 20
  path = ''
  for told, name in named:
    path = told or path  # '::name' is of the file before
    assert f'def {name}(' in (repository / path).read_text(), (path, name)
