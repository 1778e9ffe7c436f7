# SPDX-License-Identifier: Apache-2.0
"""TFDS builders of data sets that its catalogue lacks."""
