"""`python -m worker`: the command `fraud-worker`, where its script is not on the path."""

from __future__ import annotations

import sys

from worker.cli import main

if __name__ == "__main__":
    sys.exit(main())
