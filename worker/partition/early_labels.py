"""Labels that were read before they are due, because due ones lie behind them.

Labels are applied by their own time. One dated in the future must hold back no other, and one committed offset a
partition must do: so labels that are not due are set aside, journalled, and applied once the clock reaches them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.columns import Columns
from worker.columns import ArrowColumns
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
class EarlyLabels(ArrowColumns):
    """m labels in offset order, with all that settling needs.

    Attributes
    ----------
    value : large_binary (m,)
        The records' bytes, card numbers struck out.
    offsets, timestamps_ms, label_time_ms, event_time_ms, claim_ms, kind, source, id_hash, id_check, card_hash
        As of `worker.wire.decoder.LabelColumns`.
    """

    value: pa.Array
    offsets: NDArray[np.int64]
    timestamps_ms: NDArray[np.int64]
    label_time_ms: NDArray[np.int64]
    event_time_ms: NDArray[np.int64]
    claim_ms: NDArray[np.int64]
    kind: NDArray[np.uint8]
    source: NDArray[np.uint8]
    id_hash: NDArray[np.uint64]
    id_check: NDArray[np.uint64]
    card_hash: NDArray[np.uint64]

    @classmethod
    def none(cls) -> EarlyLabels:
        """Return no labels."""
        return replace(cls.empty(), value=pa.array([], pa.large_binary()))

    @classmethod
    def of(cls, labels: LabelColumns) -> EarlyLabels:
        """Return labels to be set aside."""
        return cls(**{name: getattr(labels, name) for name in cls.layout()})

    def as_read(self, next_offset: int) -> LabelColumns:
        """Return the labels as the decoder would."""
        return LabelColumns(next_offset=next_offset, **{name: getattr(self, name) for name in self.layout()})

    def redacted(self) -> EarlyLabels:
        """Return them without card numbers in their values, of which the beginning is kept."""
        # Redacted before it is cut: a card number that straddles the bound is struck out whole.
        values = [
            None if value is None else redact_bytes(value)[:LONGEST_VALUE_BYTES]
            for value in self.value.to_pylist()
        ]
        return replace(self, value=pa.array(values, pa.large_binary()))


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
    early: EarlyLabels = field(default_factory=EarlyLabels.none)
    released: Released = field(default_factory=Released.empty)


class LabelShelf:
    """The labels of one partition that were set aside; `sift` and `replay` alone change it."""

    def __init__(self) -> None:
        self._kept = EarlyLabels.none()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def room(self) -> Room:
        """How many more may be set aside."""
        taken_bytes = pc.sum(pc.binary_length(self._kept.value)).as_py() or 0
        return Room(max(0, MOST_ROWS - len(self)), max(0, MOST_BYTES - taken_bytes))

    @property
    def first_due_ms(self) -> int | None:
        """When the first one is due; None without one."""
        return int(self._kept.claim_ms.min()) if len(self) else None

    def sift(self, read: LabelColumns | None, until_ms: int) -> Sifted:
        """Set aside what is not due by `until_ms`, and return what is, the oldest offsets first.

        Parameters
        ----------
        read
            Labels just read, behind those set aside; None where there was no fetch yet.
        until_ms
            Labels up to here are due.
        """
        every = np.flatnonzero(self._kept.claim_ms <= until_ms)
        ripe = every[:RELEASED_AT_ONCE]
        if read is None or not len(read):
            if not len(ripe):
                return Sifted(read)
            read = self._kept.take(slice(0, 0)).as_read(-1 if read is None else read.next_offset)
        # Behind labels that are due and have to wait, those just read wait too: none overtakes another.
        late = np.full(len(read), True) if len(every) > len(ripe) else read.claim_ms > until_ms
        early = EarlyLabels.of(read.take(late)).redacted() if late.any() else EarlyLabels.none()
        due, released = read.take(~late) if late.any() else read, Released(self._kept.offsets[ripe])
        if len(ripe):
            due = LabelColumns.concatenate([self._kept.take(ripe).as_read(read.next_offset), due])
        self.replay(early, released)
        return Sifted(due, early, released)

    def replay(self, early: EarlyLabels, released: Released) -> None:
        """Do what a commit did."""
        if len(released):
            self._kept = self._kept.take(~np.isin(self._kept.offsets, released.offsets))
        if len(early):
            self._kept = EarlyLabels.concatenate([self._kept, early])

    def silent_until_ms(self, until_ms: int) -> int:
        """Return up to when silence is known: just before the first label that is due and still here."""
        due = self._kept.claim_ms[self._kept.claim_ms <= until_ms]
        return min(until_ms, int(due.min()) - 1) if len(due) else until_ms
