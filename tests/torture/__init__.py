# SPDX-License-Identifier: Apache-2.0
"""Runs that are killed and must not show it; `python -m tests.torture`."""
