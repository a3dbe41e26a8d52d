"""What passes between the cycle and its surroundings: the ports, and the records that cross them.

A live worker fills the ports with Kafka and metrics, a backtest with a file and memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from models.decision import Scores
from models.records import ModelRecord
from models.state import ModelState
from worker.partition.early_labels import Released, Room
from worker.partition.journal import DecisionRows, Positions
from worker.partition.settling import Matured, Settling
from worker.wire.decoder import BadRecord, LabelColumns, TransactionColumns


@dataclass(frozen=True, slots=True)
class PartitionBatch:
    """One partition's share of a batch.

    Attributes
    ----------
    transactions
        Cut at the batch's event time, but for a partition that is ahead of the present; None before its first fetch.
    moved
        Whether its positions are committed although nothing came: no worker has worked on the partition yet, or the
        input went on past aborted records.
    idle_ms
        For how long, by the wall clock, there has been no transaction to read or to take; None where it is not quiet.
    clock_ms
        To where the source moves the partition's clock, whatever came; None where it leaves that to the transactions.
    first_label_ms
        When the first of the labels that were fetched and not taken is due.
    """

    partition: int
    transactions: TransactionColumns | None
    moved: bool = False
    idle_ms: int | None = None
    clock_ms: int | None = None
    first_label_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    """Transactions of one partition with the decisions on them."""

    transactions: TransactionColumns
    scores: Scores
    rows: DecisionRows


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one cycle did to one partition.

    Attributes
    ----------
    positions
        Where reading goes on after this cycle.
    decided
        None where no transaction was new.
    labels
        The labels that were applied.
    early, released
        Labels set aside because they are not due yet, and those of earlier commits that are due now.
    surplus
        Those of `early` that are due, but more than their source may teach in a day.
    overflow
        Those that are so too, and find no room to wait: dead letters.
    by_label
        What those labels settled.
    matured
        What silence settled.
    bad
        Records that did not decode.
    repeats
        How many transactions were dropped as repeats.
    first_sequence
        Sequence number of the first decision.
    changed
        Whether anything happened that the journal must hold: a row, a label, a bad record, a move of the clock, the
        beginning of a partition.
    """

    partition: int
    positions: Positions
    decided: Decided | None
    labels: LabelColumns
    by_label: Settling
    matured: Matured
    bad: list[BadRecord]
    repeats: int
    first_sequence: int
    changed: bool
    early: LabelColumns = field(default_factory=LabelColumns.none)
    released: Released = field(default_factory=Released.empty)
    surplus: LabelColumns = field(default_factory=LabelColumns.none)
    overflow: LabelColumns = field(default_factory=LabelColumns.none)

    @property
    def settled(self) -> tuple[Settling, Settling, Settling]:
        """Everything settled, in the order of settling: the order in which the model learns it."""
        return self.by_label, self.matured.provisional, self.matured.final


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Seconds that each step of one cycle took."""

    poll_s: float
    decide_s: float
    commit_s: float
    fold_s: float


class Source(Protocol):
    """The input of the cycle."""

    def poll(self) -> list[PartitionBatch]:
        """Wait for input and cut a batch; every owned partition has an entry, none while the group rebalances."""

    def follow_clock(self, partition: int, clock_ms: int) -> int:
        """Let the watermark follow the partition's clock; return up to when labels are due, epoch milliseconds."""

    def take_labels(self, partition: int, until_ms: int, room: Room) -> LabelColumns | None:
        """Take labels up to the last one that is due, and as many that are not as there is room for.

        Those behind the last one that is due come only where none has moved for long.
        """

    def silent_until_ms(self, partition: int, clock_ms: int) -> int:
        """Return the clock, or just before the first label that is due by the clock and was not taken."""

    def take_bad(self, partition: int) -> list[BadRecord]:
        """Take the bad records before the positions reached."""

    def positions(self, partition: int) -> Positions:
        """Return where reading goes on, given what was taken."""


class ModelLog(Protocol):
    """The model log, as far as it is visible."""

    def fold_into(self, model: ModelState) -> None:
        """Fold the records not folded before, in the order of their offsets."""


Finish = Callable[[], None]
"""Waits until a commit is durable and visible; raises if it is not, or may not be."""


class Sink(Protocol):
    """The output of the cycle: one commit, all or nothing."""

    def begin(self, outcomes: list[Outcome], records: list[ModelRecord], model: ModelState) -> Finish:
        """Start a commit; the caller calls what this returns before it polls again."""


class Observer(Protocol):
    """Watches the cycles; it changes nothing that they decide."""

    def observe(self, outcomes: list[Outcome], times: StepTimes) -> None:
        """Take note of one finished cycle."""


class Standing(NamedTuple):
    """Where an owned partition stands after a rebalance.

    Attributes
    ----------
    positions
        Where reading goes on; None for a partition that no worker has worked on.
    clock_ms
        Its clock.
    """

    positions: Positions | None
    clock_ms: int


class TakeOver(Protocol):
    """Carries a rebalance of the group out."""

    def __call__(self, lost: set[int], gained: set[int]) -> Mapping[int, Standing]:
        """Close the tasks lost and restore those gained; return how each owned partition stands."""
