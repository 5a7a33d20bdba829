"""`python -m server` is `fourtalk`: for a process that starts another without a look at the PATH."""

import sys

from server.cli import main

sys.exit(main())
