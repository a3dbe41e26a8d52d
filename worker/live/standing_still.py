"""What lasts in a partition by the wall clock, where no event time says how long."""

from __future__ import annotations

import time
from typing import Final

from worker.cycle.inbox import Inbox

_LABELS_S: Final = 3_600.0
"""So long labels wait in memory for the clock: they hold back the committed offset, which retention may overtake."""


class StandingStill:
    """Since when nothing moves in one partition, in seconds of the monotonic clock.

    Parameters
    ----------
    inbox
        Of the partition.
    a_while_s
        `batch.max_idle_ms`: from then on what lasts is no chance.
    """

    def __init__(self, inbox: Inbox, a_while_s: float) -> None:
        self._inbox = inbox
        self._a_while_s = a_while_s
        self._idle_s: float | None = None
        self._passed_over_s: float | None = None
        self._labels_paused_s: float | None = None
        self._labels_s, self._labels_position = time.monotonic(), -1

    def note_cut(self, rows: int) -> None:
        """Note how many of the transactions that wait come into the next batch of all partitions."""
        if rows:
            self._passed_over_s = None
        elif self._inbox.transactions.waiting and self._passed_over_s is None:
            self._passed_over_s = time.monotonic()

    def is_live(self, wall_ms: int) -> bool:
        """Whether it has come to the present: it is read to its end, or what waits is of the future."""
        return self._inbox.at_end or self._is_of_the_future(wall_ms)

    def is_ahead(self, wall_ms: int) -> bool:
        """Whether its transactions, of the future, have waited for a while for the clocks of other partitions."""
        return self._is_of_the_future(wall_ms) and self._is_a_while_ago(self._passed_over_s)

    def _is_of_the_future(self, wall_ms: int) -> bool:
        queue = self._inbox.transactions
        return bool(queue.waiting and queue.due_ms[0] > wall_ms)

    def note_taken(self, *, came: bool) -> None:
        """Note whether transactions were taken, and what is left; let labels be set aside that have waited for long."""
        inbox = self._inbox
        if came or inbox.transactions.held or not inbox.at_end or not inbox.has_read_labels:
            self._idle_s = None
        elif self._idle_s is None:
            self._idle_s = time.monotonic()
        if inbox.labels.is_full:
            self._labels_paused_s = time.monotonic()
        moved = inbox.labels.next_offset != self._labels_position
        # Once they are set aside, that goes on until none is left: one commit has room for a few.
        if not inbox.labels.waiting or (moved and not inbox.labels.sets_aside):
            self._labels_s = time.monotonic()
        self._labels_position = inbox.labels.next_offset
        inbox.labels.sets_aside = time.monotonic() - self._labels_s >= _LABELS_S

    @property
    def quiet_for_ms(self) -> int | None:
        """For how long there has been no transaction to read or to take; None if it is not a while.

        Not at once: labels may come before transactions that were produced earlier, and would be orphans once the clock
        of a quiet partition has moved.
        """
        if self._idle_s is None or not self._is_a_while_ago(self._idle_s):
            return None
        return round((time.monotonic() - self._idle_s) * 1000)

    @property
    def knows_labels(self) -> bool:
        """Whether the client knows where the labels end: it does not ask for those of a paused partition."""
        return self._labels_paused_s is None or self._is_a_while_ago(self._labels_paused_s)

    def _is_a_while_ago(self, at_s: float | None) -> bool:
        return at_s is not None and time.monotonic() - at_s >= self._a_while_s
