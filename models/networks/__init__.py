# SPDX-License-Identifier: Apache-2.0
"""The pretrained networks: vision transformers, CLIP and its text."""
