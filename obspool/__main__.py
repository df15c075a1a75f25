"""`python -m obspool`: the command line, also where the script isn't on the PATH."""

from __future__ import annotations

import sys

from obspool.cli import main

if __name__ == "__main__":
    sys.exit(main())
