"""The journal: what one commit of one partition writes to the decisions topic, and what a restore reads back."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from types import NoneType
from typing import Annotated, Final, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from models.columns import Columns, Wide
from worker.columns import ArrowColumns
from worker.errors import CorruptError
from worker.partition.early_labels import Released
from worker.wire.decoder import LabelColumns


class Positions(NamedTuple):
    """Where reading goes on in the two input topics of one partition.

    Attributes
    ----------
    transactions, labels
        Next offset of each.
    """

    transactions: int
    labels: int

    def __str__(self) -> str:
        return f"({self.transactions}, {self.labels})"


@dataclass(frozen=True, slots=True)
class DecisionRows(ArrowColumns):
    """n decisions of one partition, in the order the worker made them.

    The one place that spells a decision's columns: the task fills them, `record_layouts` writes them, and
    `worker.partition.pending` keeps those that settling reads.

    Attributes
    ----------
    transaction_id : string (n,)
    offset, event_time_ms, clock_ms : int64 (n,)
        Offset and event time of the transaction; the partition's clock just after it.
    amount : float64 (n,)
    entities : uint64 (n, 1 + E)
        Keyed hashes of the card and the declared entities.
    features : float32 (n, F)
    logit, probability, tables_logit, trees_logit, forest_score : float32 (n,)
        NaN where there is none.
    loss : float64 (n,)
        Cost of missing the transaction if it is a fraud, by the costs in force at the decision.
    legit_weight : float32 (n,)
        Weight of the example that the decision becomes if it turns out legit.
    flags : uint16 (n,)
        `models.vocabulary.Flag` bits.
    """

    transaction_id: pa.Array
    offset: NDArray[np.int64]
    event_time_ms: NDArray[np.int64]
    clock_ms: NDArray[np.int64]
    amount: NDArray[np.float64]
    entities: Annotated[NDArray[np.uint64], Wide("hashes")]
    features: Annotated[NDArray[np.float32], Wide("features")]
    logit: NDArray[np.float32]
    probability: NDArray[np.float32]
    tables_logit: NDArray[np.float32]
    trees_logit: NDArray[np.float32]
    forest_score: NDArray[np.float32]
    loss: NDArray[np.float64]
    legit_weight: NDArray[np.float32]
    flags: NDArray[np.uint16]

    @property
    def counted_ms(self) -> NDArray[np.int64]:
        """Event times as history counts them, int64 (n,): one dated ahead of the clock counts as of the clock."""
        return np.minimum(self.event_time_ms, self.clock_ms)


@dataclass(frozen=True, slots=True)
class Settlements(Columns):
    """State of m decisions of the partition after the labels of one commit, by sequence number.

    Attributes
    ----------
    sequence : int64 (m,)
    status, acted : uint8 (m,)
    label_time_ms, learnt_at_ms : int64 (m,)
    """

    sequence: NDArray[np.int64]
    status: NDArray[np.uint8]
    acted: NDArray[np.uint8]
    label_time_ms: NDArray[np.int64]
    learnt_at_ms: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class JournalHeader:
    """Closes the journal entry of one commit of one partition; a commit without decisions has one too.

    Attributes
    ----------
    partition, partitions
        The partition's number, and how many partitions the topics have.
    next_transaction_offset, next_label_offset
        The committed offsets that belong to this state.
    clock_ms
        The partition's clock after the commit.
    case_window_ms
        Length of a case window as of the commit.
    silence_is_legit
        Whether silence became provisionally legit in this commit.
    clears_alerts
        Whether silence on alerts was legit evidence in this commit.
    first_sequence
        Sequence number of the commit's first row.
    provisional_sequence, final_sequence
        Silence has matured up to here, exclusive.
    newest_label_ms
        Time of the newest fraud or legit label applied; None before the first.
    max_cards
        Cards whose aggregates stayed in memory as of the commit.
    taught
        What sources of labels have taught, see `worker.partition.ration`.
    repeats, bad_records
        Transactions dropped as repeats; records of both topics that did not decode or were misplaced.
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
    silence_is_legit: bool
    clears_alerts: bool
    max_cards: int
    taught: tuple[float, ...]

    @property
    def positions(self) -> Positions:
        """The committed offsets that belong to this state."""
        return Positions(self.next_transaction_offset, self.next_label_offset)

    @property
    def model_offset(self) -> int:
        """Offset of the last model-log record folded before these decisions."""
        return int(self.model_version.partition("-")[2])

    def to_json(self) -> bytes:
        """Return the header as the metadata of the entry's last record holds it."""
        return orjson.dumps(asdict(self))

    @classmethod
    def from_json(cls, value: bytes) -> JournalHeader:
        """Read a header that `to_json` wrote.

        Raises
        ------
        CorruptError
            The bytes are not a header.
        """
        try:
            values = orjson.loads(value)
            header = cls(**values | {"taught": tuple(map(float, values["taught"]))})
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptError(f"journal header does not decode: {error}") from None
        for name, value_read in asdict(header).items():
            if type(value_read) not in _HEADER_TYPES.get(name, (int,)):
                raise CorruptError(f"journal header: {name} is {value_read!r}")
        if _VERSION.fullmatch(header.model_version) is None:
            raise CorruptError(f"journal header: model_version is {header.model_version!r}")
        return header


_VERSION: Final = re.compile(r"[0-9a-z]+-(-1|[0-9]+)")
_HEADER_TYPES: Final = {
    "worker": (str,),
    "lineage": (str,),
    "model_version": (str,),
    "newest_label_ms": (int, NoneType),
    "silence_is_legit": (bool,),
    "clears_alerts": (bool,),
    "taught": (tuple,),
}
"""All others are integers."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """Everything that one commit writes about one partition."""

    header: JournalHeader
    rows: DecisionRows
    settlements: Settlements
    early: LabelColumns = field(default_factory=LabelColumns.none)
    released: Released = field(default_factory=Released.empty)


JournalPart = DecisionRows | Settlements | LabelColumns | Released
"""What one record of an entry holds."""


@dataclass(slots=True)
class JournalParts:
    """The parts of an entry that has not come to its end yet."""

    rows: list[DecisionRows] = field(default_factory=list)
    settlements: list[Settlements] = field(default_factory=list)
    early: list[LabelColumns] = field(default_factory=list)
    released: list[Released] = field(default_factory=list)

    def take(self, part: JournalPart) -> None:
        """Take the next record of the entry."""
        match part:
            case DecisionRows():
                self.rows.append(part)
            case Settlements():
                self.settlements.append(part)
            case LabelColumns():
                self.early.append(part)
            case Released():
                self.released.append(part)

    def entry(self, header: JournalHeader, widths: dict[str, int]) -> JournalEntry:
        """Return the whole entry, which `header` closes; `widths` are those of `DecisionRows`."""
        return JournalEntry(
            header,
            DecisionRows.concatenate(self.rows, **widths),
            Settlements.concatenate(self.settlements),
            LabelColumns.concatenate([LabelColumns.none(), *self.early]),
            Released.concatenate(self.released),
        )
