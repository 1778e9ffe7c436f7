# SPDX-License-Identifier: Apache-2.0
"""Several hosts in one run, really started; `python -m tests.hosts`."""
