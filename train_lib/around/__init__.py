# SPDX-License-Identifier: Apache-2.0
"""What goes around any method: projection, replay, regularizers."""
