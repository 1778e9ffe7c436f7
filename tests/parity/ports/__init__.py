# SPDX-License-Identifier: Apache-2.0
"""Recordings of PyTorch code, of ports and of methods that have no other."""
