"""For how long a read goes on without progress, and when it says how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from worker.errors import UnreachableError

_REPORT_S: Final = 10.0
_OPEN_OR_SILENT: Final = (
    "no broker answers, or a transaction stays open for longer than kafka.transaction_timeout_ms"
)


class Patience:
    """Gives up a read that makes no progress, and lets it report now and then.

    Parameters
    ----------
    stalled_s
        After so long without progress the read is given up.
    report
        Called every ten seconds or so.
    why
        What may be the matter, for the error.
    """

    def __init__(
        self, stalled_s: float, report: Callable[[], None] = lambda: None, why: str = _OPEN_OR_SILENT
    ) -> None:
        self._stalled_s = stalled_s
        self._report = report
        self._why = why
        self._reported_s = self._progressed_s = time.monotonic()

    def progressed(self) -> None:
        """Begin to wait anew."""
        self._progressed_s = time.monotonic()

    def wait(self, what: str) -> None:
        """Report if it is time to; call it at each turn of the read.

        Parameters
        ----------
        what
            What does not come, and of what.

        Raises
        ------
        UnreachableError
            Nothing has come for too long.
        """
        now_s = time.monotonic()
        if now_s > self._progressed_s + self._stalled_s:
            raise UnreachableError(f"{what} for {self._stalled_s:.0f} s: {self._why}")
        if now_s > self._reported_s + _REPORT_S:
            self._reported_s = now_s
            self._report()
