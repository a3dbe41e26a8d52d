"""Labels that were read before they are due, because due ones lie behind them, or before their transaction.

Labels are applied by their own time. One dated in the future must hold back no other, and one committed offset a
partition must do: so labels that are not due are set aside, journalled, and applied once the clock reaches them. So are
labels whose transaction has not been decided; they are applied once it is, or once they have waited long enough.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.columns import Columns
from worker.redaction import redact_bytes
from worker.wire.decoder import LabelColumns

MOST_ROWS: Final = 65_536
MOST_BYTES: Final = 16 << 20
LONGEST_VALUE_BYTES: Final = 64 << 10
"""As much as a dead letter keeps."""
RELEASED_AT_ONCE: Final = 4_000
"""So many come into one commit at most, beside those just read."""


class Room(NamedTuple):
    """How many more labels may be set aside.

    Attributes
    ----------
    rows, value_bytes
        Labels, and the bytes of their values.
    """

    rows: int
    value_bytes: int


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
        Those to apply, in offset order; None where there is none.
    early
        Those set aside in this commit.
    released
        Which of the due ones were set aside earlier.
    """

    due: LabelColumns | None = None
    early: LabelColumns = field(default_factory=LabelColumns.none)
    released: Released = field(default_factory=Released.empty)


class LabelShelf:
    """The labels of one partition that were set aside; `sift` and `replay` alone change it."""

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
        """How many wait for their transaction."""
        return int(np.count_nonzero(self._are_postponed()))

    @property
    def first_due_ms(self) -> int | None:
        """When the first one is due that waits for its time, not for its transaction; None without one."""
        own = self._kept.claim_ms[~self._are_postponed()]
        return int(own.min()) if len(own) else None

    def _are_postponed(self) -> NDArray[np.bool_]:
        return np.asarray(self._kept.claim_ms > self._kept.label_time_ms)

    def fitting(self, labels: LabelColumns, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return as many of these rows of labels as may wait for their transactions: half of the shelf at most."""
        room = self.room
        rows = rows[: max(0, room.rows - MOST_ROWS // 2)]
        taken = np.cumsum(np.minimum(labels.value_bytes[rows], LONGEST_VALUE_BYTES))
        return rows[taken <= room.value_bytes - MOST_BYTES // 2]

    def set_aside(self, labels: LabelColumns) -> LabelColumns:
        """Keep labels until they are due, and return them as they are kept."""
        kept = _redacted(labels)
        self.replay(kept, Released.empty())
        return kept

    def sift(self, read: LabelColumns | None, until_ms: int, decided: NDArray[np.uint64]) -> Sifted:
        """Set aside what is not due by `until_ms`, and return what is, the oldest offsets first.

        Parameters
        ----------
        read
            Labels just read, behind those set aside; None where there was no fetch yet.
        until_ms
            Labels up to here are due.
        decided : uint64 (n,)
            The `id_hash` of the transactions decided in this commit: labels that wait for one of them are due.
        """
        every = np.flatnonzero(self._kept_are_due(until_ms, decided))
        ripe = every[:RELEASED_AT_ONCE]
        if not len(ripe) and (read is None or not len(read)):
            return Sifted(read)
        read = LabelColumns.none() if read is None else read
        # Behind labels that are due and have to wait, those just read wait too: none overtakes another.
        late = np.full(len(read), True) if len(every) > len(ripe) else read.claim_ms > until_ms
        early = _redacted(read.take(late)) if late.any() else LabelColumns.none()
        due, released = read.take(~late) if late.any() else read, Released(self._kept.offsets[ripe])
        if len(ripe):
            due = LabelColumns.concatenate([self._kept.take(ripe), due])
        self.replay(early, released)
        return Sifted(due, early, released)

    def _kept_are_due(self, until_ms: int, decided: NDArray[np.uint64]) -> NDArray[np.bool_]:
        kept = self._kept
        due = kept.claim_ms <= until_ms
        postponed = np.flatnonzero(self._are_postponed())
        if len(postponed) and len(decided):
            due[postponed] |= np.isin(kept.id_hash[postponed], decided)
        return due

    def replay(self, early: LabelColumns, released: Released) -> None:
        """Do what a commit did."""
        if len(released):
            self._kept = self._kept.take(~np.isin(self._kept.offsets, released.offsets))
        if len(early):
            self._kept = LabelColumns.concatenate([self._kept, early])

    def silent_until_ms(self, until_ms: int) -> int:
        """Return up to when silence is known: just before the first label that is due and still here."""
        first_ms = self.first_due_ms
        return until_ms if first_ms is None else min(until_ms, first_ms - 1)


def _redacted(labels: LabelColumns) -> LabelColumns:
    """Return the labels without card numbers in their values, of which the beginning is kept."""
    # Redacted before it is cut: a card number that straddles the bound is struck out whole.
    values = [
        None if value is None else redact_bytes(value)[:LONGEST_VALUE_BYTES]
        for value in labels.value.to_pylist()
    ]
    return replace(labels, value=pa.array(values, pa.large_binary()))
