# SPDX-License-Identifier: Apache-2.0
"""The pretrained networks, their heads and prompts, and the classifier."""
