# SPDX-License-Identifier: Apache-2.0
"""Arrays on devices, and hosts that agree on them."""
