"""What one commit of one partition writes to the decisions topic, and what a restore reads back."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields
from types import NoneType
from typing import Final

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from worker.errors import CorruptError


@dataclass(frozen=True, slots=True)
class DecisionRows:
    """n decisions of one partition, in the order they were made.

    Attributes
    ----------
    transaction_id : string [n]
    offset, event_time_ms, clock_ms : int64 [n]
        Offset of the transaction; the partition's clock just after it.
    amount : float64 [n]
    entities : uint64 [n, 1 + E]
        Keyed hashes of the card and the declared entities.
    features : float32 [n, F]
    logit, probability, forest_score : float32 [n]
        NaN where there was none.
    loss : float64 [n]
        What missing it as a fraud would have cost by the costs then in force.
    legit_weight : float32 [n]
        As how many examples it is learnt if it turns out legit.
    flags : uint16 [n]
        `models.vocabulary.Flag` bits.
    """

    transaction_id: pa.Array
    offset: NDArray[np.int64]
    event_time_ms: NDArray[np.int64]
    clock_ms: NDArray[np.int64]
    amount: NDArray[np.float64]
    entities: NDArray[np.uint64]
    features: NDArray[np.float32]
    logit: NDArray[np.float32]
    probability: NDArray[np.float32]
    forest_score: NDArray[np.float32]
    loss: NDArray[np.float64]
    legit_weight: NDArray[np.float32]
    flags: NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.offset)

    @property
    def counted_ms(self) -> NDArray[np.int64]:
        """Event times as history counts them, int64 [n]: one dated far ahead of the clock counts as of the clock."""
        return np.minimum(self.event_time_ms, self.clock_ms)

    def rows(self, start: int, stop: int) -> DecisionRows:
        """Rows `start` to `stop`."""
        return DecisionRows(*(getattr(self, field.name)[start:stop] for field in fields(self)))

    @classmethod
    def empty(cls, entity_count: int, feature_count: int) -> DecisionRows:
        """Nothing decided."""
        return cls(
            pa.array([], pa.string()),
            np.empty(0, np.int64),
            np.empty(0, np.int64),
            np.empty(0, np.int64),
            np.empty(0),
            np.empty((0, 1 + entity_count), np.uint64),
            np.empty((0, feature_count), np.float32),
            np.empty(0, np.float32),
            np.empty(0, np.float32),
            np.empty(0, np.float32),
            np.empty(0),
            np.empty(0, np.float32),
            np.empty(0, np.uint16),
        )

    @classmethod
    def concatenate(cls, parts: list[DecisionRows]) -> DecisionRows:
        """All parts, at least one, one after another."""
        if len(parts) == 1:
            return parts[0]
        ids = pa.concat_arrays([part.transaction_id for part in parts])
        others = (np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)[1:])
        return cls(ids, *others)


@dataclass(frozen=True, slots=True)
class Settlements:
    """What the labels of one commit left behind: m decisions of the partition, by sequence number.

    Attributes
    ----------
    sequence : int64 [m]
    status, acted : uint8 [m]
    label_time_ms, learnt_at_ms : int64 [m]
    """

    sequence: NDArray[np.int64]
    status: NDArray[np.uint8]
    acted: NDArray[np.uint8]
    label_time_ms: NDArray[np.int64]
    learnt_at_ms: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.sequence)

    @classmethod
    def empty(cls) -> Settlements:
        """No label came."""
        return cls(
            np.empty(0, np.int64),
            np.empty(0, np.uint8),
            np.empty(0, np.uint8),
            np.empty(0, np.int64),
            np.empty(0, np.int64),
        )

    @classmethod
    def concatenate(cls, parts: list[Settlements]) -> Settlements:
        """All parts, one after another."""
        if not parts:
            return cls.empty()
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))

    def rows(self, start: int, stop: int) -> Settlements:
        """Rows `start` to `stop`."""
        return Settlements(*(getattr(self, field.name)[start:stop] for field in fields(self)))


@dataclass(frozen=True, slots=True)
class JournalHeader:
    """Closes what one commit says of one partition; written even when nothing was decided.

    Attributes
    ----------
    partition, partitions
        Which, and of how many.
    next_transaction_offset, next_label_offset
        The committed offsets that belong to this state.
    clock_ms
        The partition's clock after the commit.
    case_window_ms
        Length of a case window as of the commit.
    first_sequence
        Sequence number of the commit's first row.
    provisional_sequence, final_sequence
        Up to where silence has matured, exclusive.
    newest_label_ms
        Time of the newest label applied, outcomes aside.
    repeats, bad_records
        How many transactions were dropped as repeats, and how many records of both topics went to dead letters.
    """

    worker: str
    lineage: str
    model_version: str
    partition: int
    partitions: int
    next_transaction_offset: int
    next_label_offset: int
    clock_ms: int
    case_window_ms: int
    first_sequence: int
    provisional_sequence: int
    final_sequence: int
    newest_label_ms: int | None
    repeats: int
    bad_records: int

    @property
    def model_offset(self) -> int:
        """The last offset of the model log that was folded when all this was decided."""
        return int(self.model_version.partition("-")[2])

    def to_json(self) -> bytes:
        """As it stands in the last record's metadata."""
        return orjson.dumps(asdict(self))

    @classmethod
    def from_json(cls, value: bytes) -> JournalHeader:
        """Undo `to_json`.

        Raises
        ------
        CorruptError
            The bytes are no header.
        """
        try:
            header = cls(**orjson.loads(value))
        except (TypeError, ValueError) as error:
            raise CorruptError(f"journal header does not decode: {error}") from None
        for name, told in asdict(header).items():
            if type(told) not in _HEADER_TYPES.get(name, (int,)):
                raise CorruptError(f"journal header: {name} is {told!r}")
        if _VERSION.fullmatch(header.model_version) is None:
            raise CorruptError(f"journal header: model_version is {header.model_version!r}")
        return header


_VERSION: Final = re.compile(r"[0-9a-z]+-(-1|[0-9]+)")
_HEADER_TYPES: Final = {
    "worker": (str,),
    "lineage": (str,),
    "model_version": (str,),
    "newest_label_ms": (int, NoneType),
}
"""All others are integers."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """All that one commit says of one partition."""

    header: JournalHeader
    rows: DecisionRows
    settlements: Settlements
