# SPDX-License-Identifier: Apache-2.0
"""Recipes: what to run."""
