# SPDX-License-Identifier: Apache-2.0
"""The loop over tasks, and what it is made of."""
