# SPDX-License-Identifier: Apache-2.0
"""Prints docs/wrong_inputs.md."""

from tests.wrong_inputs import page

if __name__ == '__main__':
  print(page.page(), end='')
