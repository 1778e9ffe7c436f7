# SPDX-License-Identifier: Apache-2.0
"""Tables of many runs; `python -m train_lib.compare` makes them."""
