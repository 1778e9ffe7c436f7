# SPDX-License-Identifier: Apache-2.0
"""Which example belongs to which task, and in what order."""
