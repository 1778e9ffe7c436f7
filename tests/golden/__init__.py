# SPDX-License-Identifier: Apache-2.0
"""What must not change unseen: recipes, presets, short runs."""
