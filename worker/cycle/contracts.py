"""What the processor needs of its surroundings: Kafka's in a worker, a file and memory in a backtest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from worker.wire.decoder import BadRecord, LabelColumns, TransactionColumns


@dataclass(frozen=True, slots=True)
class PartitionBatch:
    """One partition's share of a batch."""

    partition: int
    transactions: TransactionColumns | None
    quiet: bool
    """There has been no transaction to read or to take for a while."""


class Source(Protocol):
    """What the processor needs of its input; a backtest reads a file instead."""

    def poll(self) -> list[PartitionBatch]:
        """Wait for input and cut a batch of all owned partitions; every owned one has an entry."""

    def take_labels(self, partition: int, clock_ms: int) -> LabelColumns | None:
        """Take the labels due by the partition's clock."""

    def take_bad(self, partition: int) -> list[BadRecord]:
        """Take the bad records before the positions reached."""

    def positions(self, partition: int) -> tuple[int, int]:
        """Next offsets of transactions and labels, given what was taken."""
