# SPDX-License-Identifier: Apache-2.0
"""Files and catalogues to images and labels."""
