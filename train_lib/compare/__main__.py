# SPDX-License-Identifier: Apache-2.0
"""`python -m train_lib.compare RUN...`, see `table`."""

import signal
import sys

from promptcl.train_lib.compare import table

# `| head` may have seen enough before all is written.
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
sys.exit(table.main())
