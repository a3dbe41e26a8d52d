"""Waiting for a state, and how long each may take."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

START_S: Final = 120.0
"""A start: the first one compiles."""
DECIDE_S: Final = 240.0
OPEN_S: Final = 40.0
"""An open transaction: its time-out, and how often a broker looks for transactions past theirs."""
STOP_S: Final = 10.0
"""An end after SIGTERM."""


class Watched(Protocol):
    """A process that must not end while a test waits for what it does."""

    @property
    def log(self) -> str:
        """All that it has logged."""
        ...

    def assert_running(self) -> None:
        """Fail with its log if it has ended."""


def wait_for(
    reached: Callable[[], bool],
    timeout_s: float,
    explain: Callable[[], str],
    processes: Sequence[Watched] = (),
    every_s: float = 0.1,
) -> float:
    """Wait until `reached` returns true while all processes run; return how long it took, in seconds."""
    started_s = time.monotonic()
    while not reached():
        for process in processes:
            process.assert_running()
        waited_s = time.monotonic() - started_s
        logs = "".join(process.log[-3000:] for process in processes) if waited_s > timeout_s else ""
        assert waited_s <= timeout_s, f"not within {timeout_s} s: {explain()}\n{logs}"
        time.sleep(every_s)
    return time.monotonic() - started_s
