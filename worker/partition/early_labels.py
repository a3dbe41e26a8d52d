"""Labels that were read before they are due, because due ones lie behind them, or before their transaction.

Labels are applied by their own time. One dated in the future must hold back no other, and one committed offset a
partition must do: so labels that are not due are set aside, journalled, and applied once the clock reaches them. So are
labels whose transaction has not been decided; they are applied once it is, or once they have waited long enough. So
are labels that are too many for their source's day; they are applied on the next one.

Which of the three a label waits for follows from its two times. Until its own time, it is due by then. Later than its
own time, it waits for the next day if it is due at the very beginning of a day, else for its transaction.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.columns import Columns
from models.vocabulary import MS_PER_DAY, LabelSource
from worker.redaction import redact_bytes
from worker.wire.decoder import LabelColumns, TransactionColumns
from worker.wire.schema import MAX_ORIGINAL_BYTES

MOST_ROWS: Final = 65_536
MOST_BYTES: Final = 16 << 20
_CUT: Final = b"\0cut"
"""Stands behind the beginning of a longer value, before the length of the whole: no JSON has a zero byte."""
_LENGTH_BYTES: Final = 8
_NOTE_BYTES: Final = len(_CUT) + _LENGTH_BYTES
RELEASED_AT_ONCE: Final = 4_000
"""So many come into one commit of all partitions at most, beside those just read and those of transactions decided."""


class Room(NamedTuple):
    """How many more labels there is room for.

    Attributes
    ----------
    rows, value_bytes
        Labels to set aside, and the bytes of their values.
    unnamed
        Labels that do not name the time of their transaction: each is looked for in all segments of decisions.
    """

    rows: int
    value_bytes: int
    unnamed: int = 1 << 60


NO_ROOM: Final = Room(0, 0)


@dataclass(frozen=True, slots=True)
class Released(Columns):
    """Labels that were set aside earlier and are applied in this commit, by their offsets, int64 (k,)."""

    offsets: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sifted:
    """What is done with the labels of one commit.

    Attributes
    ----------
    due
        Those to apply, in offset order.
    early
        Those set aside in this commit.
    released
        Which of the due ones were set aside earlier.
    """

    due: LabelColumns = field(default_factory=LabelColumns.none)
    early: LabelColumns = field(default_factory=LabelColumns.none)
    released: Released = field(default_factory=Released.empty)


def transactions_of(columns: TransactionColumns | LabelColumns) -> NDArray[np.uint64]:
    """Return what names each row's transaction, uint64 (n,): an id of two cards is two transactions."""
    return np.asarray(columns.id_hash ^ columns.card_hash)


def wait_for_transaction(labels: LabelColumns) -> NDArray[np.bool_]:
    """Return which labels wait, or have waited, for their transaction, bool (n,)."""
    return np.asarray((labels.claim_ms > labels.label_time_ms) & (labels.claim_ms % MS_PER_DAY != 0))


def wait_for_next_day(labels: LabelColumns) -> NDArray[np.bool_]:
    """Return which labels wait, or have waited, for a day on which their source may teach more, bool (n,)."""
    return np.asarray((labels.claim_ms > labels.label_time_ms) & (labels.claim_ms % MS_PER_DAY == 0))


class LabelShelf:
    """The labels of one partition that were set aside, in offset order; `sift` and `replay` alone change it."""

    def __init__(self) -> None:
        self._kept = LabelColumns.none()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def room(self) -> Room:
        """How many more may be set aside."""
        if not len(self):
            return Room(MOST_ROWS, MOST_BYTES)
        taken_bytes = pc.sum(pc.binary_length(self._kept.value)).as_py() or 0
        return Room(max(0, MOST_ROWS - len(self)), max(0, MOST_BYTES - taken_bytes))

    @property
    def postponed(self) -> int:
        """How many wait for their transaction, or for the next day."""
        return int(np.count_nonzero(self._kept.claim_ms > self._kept.label_time_ms))

    @property
    def rationed(self) -> LabelColumns:
        """Those that wait for the next day."""
        return self._kept.take(wait_for_next_day(self._kept)) if len(self) else self._kept

    @property
    def rationed_by_source(self) -> NDArray[np.int64]:
        """How many labels of each `LabelSource` wait for the next day, int64 (sources,)."""
        rationed = self._kept.source[wait_for_next_day(self._kept)]
        return np.bincount(rationed, minlength=len(LabelSource)).astype(np.int64)

    @property
    def first_due_ms(self) -> int | None:
        """When the first one is due that waits for its own time; None without one."""
        own = self._kept.claim_ms[self._kept.claim_ms <= self._kept.label_time_ms]
        return int(own.min()) if len(own) else None

    @property
    def next_due_ms(self) -> int | None:
        """When the first one is due, whatever it waits for; None where none waits."""
        return int(self._kept.claim_ms.min()) if len(self) else None

    def before_orphans_ms(self, clock_ms: int) -> int:
        """Return the clock, but just before the first label that would have waited long enough for its transaction."""
        until_ms = self._kept.claim_ms[wait_for_transaction(self._kept)]
        return min(clock_ms, int(until_ms.min()) - 1) if len(until_ms) else clock_ms

    def is_behind(self, until_ms: int, at_once: int = RELEASED_AT_ONCE) -> bool:
        """Return whether more are due than are released at once.

        Then no label may be read: it would overtake those that have to wait, or the shelf would grow without bound.
        """
        return int(np.count_nonzero(self._kept.claim_ms <= until_ms)) > at_once

    def fitting(
        self, labels: LabelColumns, rows: NDArray[np.int64], *, whole: bool = False
    ) -> NDArray[np.int64]:
        """Return as many of these rows of labels as may wait after their own time: up to half of the shelf, or all."""
        room, spared = self.room, Room(0, 0) if whole else Room(MOST_ROWS // 2, MOST_BYTES // 2)
        rows = rows[: max(0, room.rows - spared.rows)]
        taken = np.cumsum(np.minimum(labels.value_bytes[rows], MAX_ORIGINAL_BYTES))
        return rows[taken <= room.value_bytes - spared.value_bytes]

    def set_aside(self, labels: LabelColumns, until_ms: int) -> LabelColumns:
        """Keep labels after their own time, until another, and return them as they are kept."""
        own_ms = np.minimum(labels.claim_ms, labels.label_time_ms)
        kept = replace(_redacted(labels), label_time_ms=own_ms, claim_ms=np.full(len(labels), until_ms))
        self.replay(kept, Released.empty())
        return kept

    def sift(
        self,
        read: LabelColumns | None,
        until_ms: int,
        decided: NDArray[np.uint64],
        at_once: int = RELEASED_AT_ONCE,
    ) -> Sifted:
        """Set aside what is not due by `until_ms`, and return what is, the oldest offsets first.

        Parameters
        ----------
        read
            Labels just read, behind those set aside; None where there was no fetch yet, or the shelf `is_behind`.
        until_ms
            Labels up to here are due.
        decided : uint64 (n,)
            The transactions decided in this commit, as of `transactions_of`: labels that wait for one of them are due.
        at_once
            So many are released at most, beside those of the transactions decided.
        """
        ripe = self._ripe(until_ms, decided, at_once)
        read = LabelColumns.none() if read is None else read
        if not len(ripe) and not len(read):
            return Sifted(read)
        late = read.claim_ms > until_ms
        early = _redacted(read.take(late)) if late.any() else LabelColumns.none()
        due, released = read.take(~late) if late.any() else read, Released(self._kept.offsets[ripe])
        if len(ripe):
            due = LabelColumns.concatenate([self._kept.take(ripe), due])
        self.replay(early, released)
        return Sifted(due, early, released)

    def _ripe(self, until_ms: int, decided: NDArray[np.uint64], at_once: int) -> NDArray[np.int64]:
        """Return the rows to release."""
        kept = self._kept
        chosen = np.zeros(len(kept), np.bool_)
        postponed = np.flatnonzero(wait_for_transaction(kept))
        if len(postponed) and len(decided):
            chosen[postponed] = np.isin(transactions_of(kept)[postponed], decided)
        chosen[np.flatnonzero((kept.claim_ms <= until_ms) & ~chosen)[:at_once]] = True
        return np.flatnonzero(chosen)

    def replay(self, early: LabelColumns, released: Released) -> None:
        """Do what a commit did."""
        if len(released):
            self._kept = self._kept.take(~np.isin(self._kept.offsets, released.offsets))
        if len(early):
            kept = LabelColumns.concatenate([self._kept, early])
            # A label that is set aside again has waited longer than others: a reversal must not overtake its fraud.
            is_in_order = bool(np.all(np.diff(kept.offsets) > 0))
            self._kept = kept if is_in_order else kept.take(np.argsort(kept.offsets, kind="stable"))

    def silent_until_ms(self, until_ms: int) -> int:
        """Return up to when silence is known: just before the first label that is due by its own time and still here.

        One that waits for the next day is due; one that waits for its transaction speaks of none that is here.
        """
        kept = self._kept.take(~wait_for_transaction(self._kept)) if len(self) else self._kept
        own_ms = np.minimum(kept.claim_ms, kept.label_time_ms)
        return min(until_ms, int(own_ms.min()) - 1) if len(own_ms) else until_ms


def uncut(value: bytes) -> tuple[bytes, int]:
    """Return what is kept of a label's value, its beginning at least, and the length of the whole."""
    if not _is_cut(value):
        return value, len(value)
    return value[:-_NOTE_BYTES], int.from_bytes(value[-_LENGTH_BYTES:])


def _redacted(labels: LabelColumns) -> LabelColumns:
    """Return the labels without card numbers in their values, of which the beginning is kept."""
    values = [None if value is None else _kept_of(value) for value in labels.value.to_pylist()]
    return replace(labels, value=pa.array(values, pa.large_binary()))


def _kept_of(value: bytes) -> bytes:
    if _is_cut(value):
        return value
    # Redacted before it is cut: a card number that straddles the bound is struck out whole.
    kept = redact_bytes(value)[:MAX_ORIGINAL_BYTES]
    return kept if len(kept) == len(value) else kept + _CUT + len(value).to_bytes(_LENGTH_BYTES)


def _is_cut(value: bytes) -> bool:
    return value[-_NOTE_BYTES:].startswith(_CUT)
