# SPDX-License-Identifier: Apache-2.0
"""Prompt-based continual learning in JAX/Flax.

In an installed package the rooms (`models`, `train_lib`, ...) lie beside this
file.  In a checkout they lie one folder up, where people find them; there this
package is a name for that folder.
"""

import pathlib

__version__ = '0.1.0'

_HERE = pathlib.Path(__file__).resolve().parent
if not (_HERE / 'models').is_dir():
  __path__.append(str(_HERE.parent))
