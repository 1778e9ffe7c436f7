# SPDX-License-Identifier: Apache-2.0
"""What tests are made of: fakes, processes, places to end a run."""
