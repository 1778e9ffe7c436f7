# SPDX-License-Identifier: Apache-2.0
"""What is done to one picture, and how batches are made of them."""
