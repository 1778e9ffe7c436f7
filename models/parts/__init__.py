# SPDX-License-Identifier: Apache-2.0
"""What methods are made of: the base class, pools, matching, phases."""
