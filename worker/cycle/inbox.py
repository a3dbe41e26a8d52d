"""Rows of one partition that were fetched and not yet taken, and where a batch is cut.

Decoded columns wait here with a cursor. Waiting rows are uncommitted, and their partition is paused meanwhile, so that
no more than one fetch waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from worker.wire.decoder import BadRecord, LabelColumns, TransactionColumns

C = TypeVar("C", TransactionColumns, LabelColumns)


class _Queue(Generic[C]):
    """Columns in offset order, taken from the front as the clock moves."""

    def __init__(self) -> None:
        self._columns: C | None = None
        self._due_ms: NDArray[np.int64] = np.empty(0, np.int64)
        self._cursor = 0
        self._bad: list[BadRecord] = []
        self.next_offset = -1

    def put(self, columns: C, time_ms: NDArray[np.int64], bad: list[BadRecord]) -> None:
        """Append one fetch; each row is due at its `time_ms`, int64 (n,), but not before the rows ahead of it."""
        due_ms = np.maximum.accumulate(time_ms) if len(time_ms) else time_ms
        if self.waiting and self._columns is not None:
            rest = self._columns.rows(self._cursor, len(self._columns))
            columns = type(columns).concatenate([rest, columns])
            due_ms = np.concatenate([self._due_ms[self._cursor :], due_ms])
            due_ms = np.maximum.accumulate(due_ms)
        self._columns, self._due_ms, self._cursor = columns, due_ms, 0
        self._bad.extend(bad)
        if not self.waiting:
            self.next_offset = columns.next_offset

    @property
    def waiting(self) -> int:
        """Rows not taken yet."""
        return len(self._due_ms) - self._cursor

    @property
    def due_ms(self) -> NDArray[np.int64]:
        """When each waiting row is due, ascending, int64 (n,)."""
        return self._due_ms[self._cursor :]

    def take(self, until_ms: int) -> C | None:
        """Take the rows due by `until_ms`; None before the first fetch."""
        if self._columns is None:
            return None
        stop = self._cursor + int(np.searchsorted(self.due_ms, until_ms, side="right"))
        taken = self._columns.rows(self._cursor, stop)
        self._cursor = stop
        self.next_offset = taken.next_offset
        return taken

    def take_bad(self) -> list[BadRecord]:
        """Take the bad records that lie before the position reached."""
        passed = [record for record in self._bad if record.offset < self.next_offset]
        self._bad = [record for record in self._bad if record.offset >= self.next_offset]
        return passed


class Inbox:
    """One partition's transactions and labels, fetched and not yet taken.

    Parameters
    ----------
    partition
        Its number.
    allowed_skew_ms
        How far a record's own time may lie ahead of its Kafka timestamp; beyond that, timestamp + skew counts.
    """

    def __init__(self, partition: int, allowed_skew_ms: int) -> None:
        self.partition = partition
        self.transactions: _Queue[TransactionColumns] = _Queue()
        self.labels: _Queue[LabelColumns] = _Queue()
        self.at_end = False
        """Whether the broker has no more transactions than those waiting here."""
        self.idle_since_s: float | None = None
        """Since when there has been no transaction to read or to take."""
        self._skew_ms = allowed_skew_ms

    def put_transactions(self, columns: TransactionColumns, bad: list[BadRecord]) -> None:
        """Append one fetch of transactions."""
        self.transactions.put(
            columns, np.minimum(columns.event_time_ms, columns.timestamps_ms + self._skew_ms), bad
        )

    def put_labels(self, columns: LabelColumns, bad: list[BadRecord]) -> None:
        """Append one fetch of labels."""
        self.labels.put(
            columns, np.minimum(columns.label_time_ms, columns.timestamps_ms + self._skew_ms), bad
        )


def cut_ms(inboxes: Sequence[Inbox], span_ms: int, max_records: int) -> int | None:
    """Return the event time at which the next batch of all partitions is cut; None where nothing waits.

    A batch spans at most `span_ms` and does not run ahead of a partition that has more to come: so a catch-up sees
    almost what live traffic would have seen. It holds at most `max_records`, plus all other waiting rows of its last
    event time: labels of that time are due with them, and would find no decision if a cut parted them.
    """
    busy = [inbox for inbox in inboxes if inbox.transactions.waiting]
    if not busy:
        return None
    end = min(int(inbox.transactions.due_ms[0]) for inbox in busy) + span_ms
    ahead = [int(inbox.transactions.due_ms[-1]) for inbox in busy if not inbox.at_end]
    end = min([end, *ahead])
    due_ms = np.concatenate([inbox.transactions.due_ms[: max_records + 1] for inbox in busy])
    inside = due_ms[due_ms <= end]
    if len(inside) > max_records:
        end = int(np.partition(inside, max_records - 1)[max_records - 1])
    return end
