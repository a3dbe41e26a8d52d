"""What a run of hours says while it runs."""

from __future__ import annotations

import time


def say(line: str) -> None:
    """Print a line with the time of day, at once."""
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)
