# SPDX-License-Identifier: Apache-2.0
"""What is compiled: train and evaluation step, losses, optimizer."""
