"""Where batches come from: the consumer, the decoder and the inboxes of the owned partitions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Protocol

from kafka import ConsumerGroupMetadata, ConsumerRebalanceListener
from kafka.structs import TopicPartition

from worker.consumer import ColumnarConsumer, RecordColumns
from worker.decoder import BadRecord, Decoder, LabelColumns
from worker.guard import InputGuard
from worker.inbox import Inbox, cut_ms
from worker.ports import PartitionBatch
from worker.settings import BatchSettings, TopicSettings


class Positions(Protocol):
    """What a rebalance needs: the positions at which a partition goes on, None to let Kafka say."""

    def __call__(self, lost: set[int], gained: set[int]) -> Mapping[int, tuple[int, int] | None]:
        """Close the tasks lost, restore those gained; the positions of every partition now owned."""


class KafkaSource:
    """Reads the owned partitions of both topics.

    Parameters
    ----------
    consumer
        Not yet subscribed.
    decoder
        Bytes to columns.
    topics, batch
        Settings.
    guard
        Stops a worker whose input is not what it was promised.
    rebalanced
        Called from `poll` whenever the owned partitions have changed.
    """

    def __init__(
        self,
        consumer: ColumnarConsumer,
        decoder: Decoder,
        topics: TopicSettings,
        batch: BatchSettings,
        guard: InputGuard,
        rebalanced: Positions,
    ) -> None:
        self._consumer = consumer
        self._decoder = decoder
        self._topics = topics
        self._batch = batch
        self._guard = guard
        self._rebalanced = rebalanced
        self._inboxes: dict[int, Inbox] = {}
        self._listener = _Listener()
        self._held_since_s = 0.0
        self.rebalances = 0
        consumer.subscribe([topics.transactions, topics.labels], self._listener)

    @property
    def owned(self) -> set[int]:
        """Partitions owned now."""
        return set(self._inboxes)

    @property
    def group_metadata(self) -> ConsumerGroupMetadata:
        """Of the group generation in which the last batch was polled."""
        return self._consumer.group_metadata()

    def poll(self) -> list[PartitionBatch]:
        """Wait for input and cut a batch; empty while the group rebalances or a partition is waited for."""
        # What waits already can be cut at once: waiting for more would idle.
        busy = any(inbox.transactions.waiting for inbox in self._inboxes.values())
        fetched = self._consumer.poll(0 if busy and not self._held_since_s else self._batch.commit_interval_ms)
        if self._listener.joining:
            return []
        if self._listener.changed:
            self._listener.changed = False
            self._take_over()
            return []
        for columns in fetched:
            self._put(columns)
        for partition, inbox in self._inboxes.items():
            inbox.at_end = self._read_all(self._topics.transactions, partition)
        return [] if self._holds() else self._cut()

    def take_labels(self, partition: int, clock_ms: int) -> LabelColumns | None:
        """Take the labels due by the partition's clock."""
        return self._inboxes[partition].labels.take(clock_ms)

    def take_bad(self, partition: int) -> list[BadRecord]:
        """Take the bad records before the positions reached."""
        inbox = self._inboxes[partition]
        return inbox.transactions.take_bad() + inbox.labels.take_bad()

    def positions(self, partition: int) -> tuple[int, int]:
        """Next offsets of transactions and labels, given what was taken."""
        inbox = self._inboxes[partition]
        return inbox.transactions.next_offset, inbox.labels.next_offset

    def lag(self, partition: int) -> tuple[int, int]:
        """Records of both topics that the broker has and that were not taken yet."""
        lags = []
        for topic, queue in self._queues(partition):
            end = self._consumer.highwater(TopicPartition(topic, partition))
            lags.append(0 if end is None else max(0, end - queue))
        return lags[0], lags[1]

    def _queues(self, partition: int) -> list[tuple[str, int]]:
        transactions, labels = self.positions(partition)
        return [(self._topics.transactions, transactions), (self._topics.labels, labels)]

    def _take_over(self) -> None:
        """The group has given us a new set: drop what waits, restore what is new, go on where the tasks stand."""
        self.rebalances += 1
        owned = {tp.partition for tp in self._consumer.assignment() if tp.topic == self._topics.transactions}
        positions = self._rebalanced(self.owned - owned, owned - self.owned)
        skew_ms = int(self._batch.allowed_skew_s * 1000)
        self._inboxes = {partition: Inbox(partition, skew_ms) for partition in sorted(owned)}
        for partition, inbox in self._inboxes.items():
            transactions, labels = positions[partition] or (None, None)
            inbox.transactions.next_offset = self._start(self._topics.transactions, partition, transactions)
            inbox.labels.next_offset = self._start(self._topics.labels, partition, labels)

    def _start(self, topic: str, partition: int, offset: int | None) -> int:
        tp = TopicPartition(topic, partition)
        self._consumer.resume(tp)
        if offset is not None:
            self._consumer.seek(tp, offset)
            return offset
        position = self._consumer.position(tp)
        return 0 if position is None else position

    def _put(self, columns: RecordColumns) -> None:
        inbox = self._inboxes.get(columns.partition)
        if inbox is None:
            return
        self._guard.check_keys(columns)
        if columns.topic == self._topics.transactions:
            transactions, bad = self._decoder.transactions(columns)
            inbox.put_transactions(transactions, bad)
        else:
            labels, bad = self._decoder.labels(columns)
            inbox.put_labels(labels, bad)
        self._guard.count(len(columns), len(bad))

    def _holds(self) -> bool:
        """Whether to wait, for a bounded time, for partitions that have more than has come (as Kafka Streams does)."""
        inboxes = self._inboxes.values()
        if all(inbox.at_end or inbox.transactions.waiting for inbox in inboxes):
            self._held_since_s = 0.0
            return False
        self._held_since_s = self._held_since_s or time.monotonic()
        return time.monotonic() - self._held_since_s < self._batch.max_idle_ms / 1000.0

    def _cut(self) -> list[PartitionBatch]:
        span_ms = int(self._batch.max_event_time_s * 1000)
        until_ms = cut_ms(list(self._inboxes.values()), span_ms, self._batch.max_records)
        batch = []
        for partition, inbox in self._inboxes.items():
            taken = None if until_ms is None else inbox.transactions.take(until_ms)
            self._pause_while(self._topics.transactions, partition, inbox.transactions.waiting)
            batch.append(PartitionBatch(partition, taken, quiet=self._is_quiet(partition, inbox)))
        return batch

    def _is_quiet(self, partition: int, inbox: Inbox) -> bool:
        self._pause_while(self._topics.labels, partition, inbox.labels.waiting)
        return inbox.at_end and not inbox.transactions.waiting

    def _read_all(self, topic: str, partition: int) -> bool:
        tp = TopicPartition(topic, partition)
        end, position = self._consumer.highwater(tp), self._consumer.position(tp)
        return end is not None and position is not None and position >= end

    def _pause_while(self, topic: str, partition: int, waiting: int) -> None:
        tp = TopicPartition(topic, partition)
        (self._consumer.pause if waiting else self._consumer.resume)(tp)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Runs in the client's IO thread: it only leaves notes for the next `poll`."""

    def __init__(self) -> None:
        self.joining = False
        self.changed = False

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        del revoked
        self.joining = True

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        del assigned
        self.joining, self.changed = False, True
