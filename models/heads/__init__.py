# SPDX-License-Identifier: Apache-2.0
"""From features to logits."""
