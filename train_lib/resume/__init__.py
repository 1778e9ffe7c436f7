# SPDX-License-Identifier: Apache-2.0
"""Where a run goes on: checkpoints, the run folder, signals."""
