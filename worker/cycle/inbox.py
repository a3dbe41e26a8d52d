"""Rows of one partition that were fetched and not yet taken, and where a batch is cut.

Decoded columns wait here with a cursor. Waiting rows are uncommitted. Transactions are paused while some wait, so that
no more than one fetch does; labels, which may wait for their time, while due ones are left or as many wait as may. What
one cycle takes is bounded in rows and in bytes: the position stops there, and the rest comes with the next cycle.
Otherwise a Kafka transaction could take longer than it may stay open, and the same batch would come again for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY, NEVER_MS
from worker.cycle.watermark import Watermark
from worker.partition.early_labels import MOST_BYTES, MOST_ROWS, NO_ROOM, Room
from worker.partition.journal import Positions
from worker.wire.decoder import BadRecord, LabelColumns, TransactionColumns
from worker.wire.schema import END_OF_TIME_MS

C = TypeVar("C", TransactionColumns, LabelColumns)


class Bound(NamedTuple):
    """How much of one topic of one partition goes into one commit.

    Attributes
    ----------
    rows
        Good records.
    dead_letters
        Bad records: each becomes a Kafka record.
    value_bytes
        Of the labels' values, and again of the bad records' of either topic. One record is taken even if it has more.
    """

    rows: int
    dead_letters: int
    value_bytes: int

    def share(self, partitions: int) -> Bound:
        """Return the bound of one of several partitions that share this one."""
        return Bound(*(max(1, most // max(1, partitions)) for most in self))


DEAD_LETTERS: Final = 4_000
VALUE_BYTES: Final = 16 << 20
UNBOUNDED: Final = Bound(1 << 60, 1 << 60, 1 << 60)


class _Queue(Generic[C]):
    """Columns in offset order, taken from the front as the clock moves."""

    def __init__(self) -> None:
        self._columns: C | None = None
        self._due_ms: NDArray[np.int64] = np.empty(0, np.int64)
        self._cursor = 0
        self._bad: deque[BadRecord] = deque()
        self.next_offset = -1
        self.cut_short = False
        """Whether the last `take` left something for its bound alone."""

    def put(self, columns: C, time_ms: NDArray[np.int64], bad: list[BadRecord]) -> None:
        """Append one fetch; each row is due at its `time_ms`, int64 (n,)."""
        due_ms = time_ms
        if self.waiting and self._columns is not None:
            rest = self._columns.rows(self._cursor, len(self._columns))
            columns = type(columns).concatenate([rest, columns])
            due_ms = np.concatenate([self._due_ms[self._cursor :], due_ms])
        self._columns, self._due_ms, self._cursor = columns, self._in_turn(due_ms), 0
        self._bad.extend(bad)

    def pass_gap(self, position: int) -> bool:
        """Move to where reading goes on if everything before it was taken; return whether that is farther on."""
        if self.held or position <= self.next_offset:
            return False
        self.next_offset = position
        if self._columns is not None:
            self._columns = replace(self._columns, next_offset=position)
        return True

    def _in_turn(self, due_ms: NDArray[np.int64]) -> NDArray[np.int64]:
        """No row is due before the rows ahead of it."""
        return np.maximum.accumulate(due_ms) if len(due_ms) else due_ms

    @property
    def waiting(self) -> int:
        """Rows not taken yet."""
        return len(self._due_ms) - self._cursor

    @property
    def due_ms(self) -> NDArray[np.int64]:
        """When each waiting row is due, int64 (n,)."""
        return self._due_ms[self._cursor :]

    def first_claim_ms(self, until_ms: int) -> int | None:
        """Return the earliest time that a waiting row gives of those due by `until_ms`; None where none is."""
        due = int(np.searchsorted(self.due_ms, until_ms, side="right"))
        if not due or self._columns is None:
            return None
        return int(self._columns.claim_ms[self._cursor : self._cursor + due].min())

    def take(self, until_ms: int, bound: Bound = UNBOUNDED, room: Room = NO_ROOM) -> C | None:
        """Take the rows due by `until_ms`, within a bound; None before the first fetch.

        The position moves behind the last row taken, and past the bad records that follow it, as many as the bound
        allows.
        """
        if self._columns is None:
            return None
        due = self._due(until_ms, bound, room)
        stop = self._cursor + min(due, self._rows_within(bound, room))
        limit = self._first_bad_beyond(bound)
        if limit is not None:
            stop = min(stop, int(np.searchsorted(self._columns.offsets, limit)))
        taken = self._columns.rows(self._cursor, stop)
        if limit is not None and limit < taken.next_offset:
            taken = replace(taken, next_offset=limit)
        self.cut_short = stop < self._cursor + due or taken.next_offset == limit
        self._cursor = stop
        self.next_offset = taken.next_offset
        return taken

    def _due(self, until_ms: int, bound: Bound, room: Room) -> int:
        """Return how many rows may be taken from the front."""
        del bound, room
        return int(np.searchsorted(self.due_ms, until_ms, side="right"))

    def _rows_within(self, bound: Bound, room: Room) -> int:
        """Return how many of the next rows the bound allows."""
        del room
        return bound.rows

    def _first_bad_beyond(self, bound: Bound) -> int | None:
        """Return the offset of the first bad record that the bound does not allow; None if it allows all."""
        taken_bytes = 0
        for number, record in enumerate(self._bad):
            taken_bytes += 0 if record.value is None else len(record.value)
            if number >= bound.dead_letters or (number > 0 and taken_bytes > bound.value_bytes):
                return record.offset
        return None

    @property
    def held(self) -> bool:
        """Whether rows or bad records were fetched and not taken yet."""
        return bool(self.waiting or self._bad)

    @property
    def waiting_bad(self) -> int:
        """How many bad records were fetched and not taken yet."""
        return len(self._bad)

    def take_bad(self) -> list[BadRecord]:
        """Take the bad records that lie before the position reached."""
        passed = []
        while self._bad and self._bad[0].offset < self.next_offset:
            passed.append(self._bad.popleft())
        return passed


class _LabelQueue(_Queue[LabelColumns]):
    """Labels, each due by its own time: one that is not due holds back none that lies behind it."""

    def __init__(self) -> None:
        super().__init__()
        self._first_due_ms: NDArray[np.int64] = np.empty(0, np.int64)
        """Of each row, the earliest time at which it or one behind it is due."""
        self._is_in_order = True
        self.sets_aside = False
        """Whether labels that are not due are taken although none that is due lies behind them."""

    def put(self, columns: LabelColumns, time_ms: NDArray[np.int64], bad: list[BadRecord]) -> None:
        super().put(columns, time_ms, bad)
        self._first_due_ms = np.minimum.accumulate(self._due_ms[::-1])[::-1]
        self._is_in_order = bool(np.array_equal(self._first_due_ms, self._due_ms))

    @property
    def first_due_ms(self) -> int | None:
        """When the first waiting row is due; None without one."""
        return int(self._first_due_ms[self._cursor]) if self.waiting else None

    def _in_turn(self, due_ms: NDArray[np.int64]) -> NDArray[np.int64]:
        return due_ms

    def _due(self, until_ms: int, bound: Bound, room: Room) -> int:
        """Go up to the last row that is due, past as many that are not as there is room to set aside."""
        if self._is_in_order and not self.sets_aside:
            return super()._due(until_ms, bound, room)
        # Farther than this no row can be taken: neither room nor bound would let it.
        early = self.due_ms[: bound.rows + room.rows] > until_ms
        if early.any():
            passed_bytes = np.where(early, self._value_bytes(len(early)), 0).cumsum()
            beyond = (np.cumsum(early) > room.rows) | (passed_bytes > room.value_bytes)
            early = beyond if self.sets_aside else early | beyond
        due = np.flatnonzero(~early)
        return int(due[-1]) + 1 if len(due) else 0

    def _rows_within(self, bound: Bound, room: Room) -> int:
        ends = np.cumsum(self._value_bytes(bound.rows))
        rows = int(np.searchsorted(ends, bound.value_bytes, side="right"))
        if self._columns is not None:
            named_ms = self._columns.event_time_ms[self._cursor : self._cursor + rows]
            rows = int(np.searchsorted(np.cumsum(named_ms < 0), room.unnamed, side="right"))
        return max(1, rows)

    @property
    def is_full(self) -> bool:
        """Whether no more may be fetched: due or bad records are left, or as many wait as may."""
        return self.has_work or self._is_crowded

    @property
    def has_work(self) -> bool:
        """Whether due or bad records are left, for their bounds alone."""
        return bool(self._bad) or self.cut_short

    @property
    def _is_crowded(self) -> bool:
        if self.waiting > MOST_ROWS:
            return True
        return bool(self.waiting) and int(self._value_bytes(self.waiting).sum()) > MOST_BYTES

    def _value_bytes(self, rows: int) -> NDArray[np.int64]:
        columns = self._columns
        if columns is None:
            return np.zeros(0, np.int64)
        return columns.rows(self._cursor, min(self._cursor + rows, len(columns))).value_bytes


class Inbox:
    """One partition's transactions and labels, fetched and not yet taken.

    Parameters
    ----------
    allowed_skew_ms
        How far a record's own time may lie ahead of its Kafka timestamp; beyond that, timestamp + skew counts.
    clock_ms
        The partition's clock where reading begins.
    """

    def __init__(self, allowed_skew_ms: int, clock_ms: int = NEVER_MS) -> None:
        self.watermark = Watermark(clock_ms)
        self.transactions: _Queue[TransactionColumns] = _Queue()
        self.labels = _LabelQueue()
        self.at_end = False
        """Whether the broker has no more transactions than those waiting here."""
        self.has_all_labels = True
        """Whether the broker is known to have no more labels than those read."""
        self._label_watermark = Watermark()
        self._last_label_ms = NEVER_MS
        self._skew_ms = allowed_skew_ms

    def put_transactions(
        self,
        columns: TransactionColumns,
        bad: list[BadRecord],
        wall_ms: int | None = None,
        *,
        are_last: bool = False,
    ) -> None:
        """Append one fetch of transactions.

        Parameters
        ----------
        columns, bad
            Those that decode, and the others.
        wall_ms
            Now; None where the time of the records is not ours.
        are_last
            Whether no more will come, as from a file.
        """
        claim_ms = self._capped(columns.event_time_ms, columns.timestamps_ms, wall_ms)
        clock_ms = self.watermark.clock_ms
        allowed_ms = self.watermark.advance(claim_ms, are_last=are_last)
        # Late ones are decided as of the clock, and so are due by it: by their own times, those of an upload of old
        # payments would come one batch after the other, before all others.
        self.transactions.put(replace(columns, claim_ms=allowed_ms), np.maximum(allowed_ms, clock_ms), bad)

    def put_labels(self, columns: LabelColumns, bad: list[BadRecord], wall_ms: int | None = None) -> None:
        """Append one fetch of labels."""
        claim_ms = self._capped(columns.label_time_ms, columns.timestamps_ms, wall_ms)
        self.labels.put(replace(columns, claim_ms=claim_ms), claim_ms, bad)
        if len(claim_ms):
            # No single label of the future lets silence speak before those that are still to be read.
            self._label_watermark.advance(claim_ms)
            self._last_label_ms = min(int(claim_ms[-1]), self._label_watermark.clock_ms)

    def _capped(
        self, time_ms: NDArray[np.int64], timestamp_ms: NDArray[np.int64], wall_ms: int | None
    ) -> NDArray[np.int64]:
        """Return the times that records give, but none far ahead of when they were sent, nor of tomorrow.

        Kafka's -1 says that a record has no timestamp, and some producers write 0.
        """
        sent_ms = np.where(timestamp_ms > 0, np.minimum(timestamp_ms, END_OF_TIME_MS), END_OF_TIME_MS)
        capped_ms: NDArray[np.int64] = np.minimum(time_ms, sent_ms + self._skew_ms)
        return capped_ms if wall_ms is None else np.minimum(capped_ms, wall_ms + MS_PER_DAY)

    def take_bad(self) -> list[BadRecord]:
        """Take the bad records before the positions reached."""
        return self.transactions.take_bad() + self.labels.take_bad()

    @property
    def positions(self) -> Positions:
        """Where reading goes on, given what was taken."""
        return Positions(self.transactions.next_offset, self.labels.next_offset)

    def follow_clock(self, clock_ms: int) -> int:
        """Let the watermark follow the partition's clock; return up to when labels are due: the clock.

        Where a batch was cut within one event time, it is just before the earliest transaction left: a label of that
        time would find no decision.
        """
        self.watermark.follow(clock_ms)
        left_ms = self.transactions.first_claim_ms(clock_ms)
        return clock_ms if left_ms is None else min(clock_ms, left_ms - 1)

    def take_labels(
        self, until_ms: int, bound: Bound = UNBOUNDED, room: Room = NO_ROOM
    ) -> LabelColumns | None:
        """Take labels up to the last one that is due, within a bound.

        Those among them that are not due yet, as many as there is `room` for, are the caller's to set aside.
        """
        return self.labels.take(until_ms, bound, room)

    @property
    def has_read_labels(self) -> bool:
        """Whether no more labels come before the clock moves: all are read, or as many as may wait for their time."""
        return not self.labels.has_work and (self.has_all_labels or self.labels.is_full)

    def silent_until_ms(self, clock_ms: int) -> int:
        """Return up to when silence is known: the clock, or just before the first label that is due and not taken.

        While the broker has more labels, it is not beyond the last one read.
        """
        until_ms = clock_ms if self.has_all_labels else min(clock_ms, self._last_label_ms)
        first_ms = self.labels.first_due_ms
        return until_ms if first_ms is None else min(until_ms, first_ms - 1)


class Cut(NamedTuple):
    """Where the next batch of all partitions is cut.

    Attributes
    ----------
    until_ms
        Event time of the last transaction.
    rows
        How many transactions of each partition.
    """

    until_ms: int
    rows: list[int]


def cut(inboxes: Sequence[Inbox], span_ms: int, max_records: int) -> Cut | None:
    """Cut the next batch of all partitions at one event time; None where nothing waits.

    A batch spans at most `span_ms` and does not run ahead of a partition that has more to come: so a catch-up sees
    almost what live traffic would have seen. It holds at most `max_records`, even where more are of one event time: in
    a file dated to the day, all of them are.
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
    before, inside_rows = (
        [int(np.searchsorted(inbox.transactions.due_ms, end, side)) for inbox in inboxes]
        for side in ("left", "right")
    )
    # Of the last event time, partitions take in turn what room is left.
    room = max_records - sum(before)
    rows = []
    for first, last in zip(before, inside_rows, strict=True):
        taken = min(last - first, room)
        room -= taken
        rows.append(first + taken)
    return Cut(end, rows)
