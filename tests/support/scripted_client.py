"""A scripted client, and a source over it: what the group does happens inside the next polls."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import cast

from kafka import ConsumerGroupMetadata, ConsumerRebalanceListener, TopicPartition

from models.vocabulary import NEVER_MS
from tests.support.records import json_columns
from worker.cycle.contracts import Standing
from worker.kafka_io.consumer import ColumnarConsumer
from worker.kafka_io.record_batches import RecordColumns
from worker.live.guard import InputGuard
from worker.live.source import KafkaSource
from worker.partition.journal import Positions
from worker.settings.fields import StartFrom
from worker.settings.sections import Settings
from worker.wire.decoder import Decoder

SETTINGS = Settings(entity_key="00" * 16)
TOPICS = (SETTINGS.topics.transactions, SETTINGS.topics.labels)


class Client:
    """Stands for the consumer; `script` is what happens inside the next polls."""

    def __init__(self) -> None:
        self.listener: ConsumerRebalanceListener | None = None
        self.script: list[Callable[[], None]] = []
        self.positions: dict[TopicPartition, int] = {}
        self.paused: set[TopicPartition] = set()
        self.ends: dict[TopicPartition, int] = {}
        self.generation = 1
        self.member = "m"
        self.partitions = {0, 1, 2}
        self.ends_ahead = 0
        self.rejoins = 0
        self.fetched: list[RecordColumns] = []
        self.behind: dict[TopicPartition, int] = {}

    def subscribe(self, topics: list[str], listener: ConsumerRebalanceListener) -> None:
        assert topics == list(TOPICS)
        self.listener = listener

    def poll(self, timeout_ms: int) -> list[RecordColumns]:
        assert timeout_ms >= 0
        if self.script:
            self.script.pop(0)()
        fetched, self.fetched = self.fetched, []
        return fetched

    def rebalance(self, *partitions: int, lost: bool = False) -> None:
        assert self.listener is not None
        self.generation += 1
        if lost:
            self.member += "'"
        mine, given = set(self.positions), {TopicPartition(topic, p) for topic in TOPICS for p in partitions}
        (self.listener.on_partitions_lost if lost else self.listener.on_partitions_revoked)(mine)
        self.positions = {tp: self.positions.get(tp, -1) for tp in given}
        self.listener.on_partitions_assigned(given)

    def fetch(self, partition: int, offset: int, ahead_ms: int = 0) -> None:
        """Bring one transaction, dated so far ahead of the moment at which it comes."""
        its_ms = time.time_ns() // 1_000_000 + ahead_ms
        message = {"transaction_id": f"t{offset}", "card_id": "c", "event_time": its_ms, "amount": 1.0}
        columns = json_columns([message], TOPICS[0])
        self.fetched.append(
            replace(
                columns,
                partition=partition,
                offsets=columns.offsets * 0 + offset,
                timestamps_ms=columns.timestamps_ms * 0 + its_ms,
                next_offset=offset + 1,
            )
        )
        self.positions[TopicPartition(TOPICS[0], partition)] = offset + 1

    def throw_out(self) -> None:
        assert self.listener is not None
        self.listener.on_partitions_lost(set(self.positions))
        self.positions = {}

    def rejoin(self) -> None:
        self.rejoins += 1

    def assignment(self) -> set[TopicPartition]:
        return set(self.positions)

    def group_metadata(self) -> ConsumerGroupMetadata:
        return ConsumerGroupMetadata(group_id="g", generation_id=self.generation, member_id=self.member)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self.positions[tp] = offset

    def pause(self, *tps: TopicPartition) -> None:
        self.paused |= set(tps)

    def resume(self, *tps: TopicPartition) -> None:
        self.paused -= set(tps)

    def position(self, tp: TopicPartition) -> int:
        return self.positions[tp]

    def highwater(self, tp: TopicPartition) -> int:
        return self.positions[tp] + self.ends_ahead + self.behind.get(tp, 0)

    def partitions_for_topic(self, topic: str) -> set[int]:
        return self.partitions if topic == TOPICS[1] else {0, 1, 2}

    def beginning_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, 3)

    def end_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: self.ends[tp] for tp in tps}


class Tasks:
    """A take-over that records its calls."""

    def __init__(self, committed: Mapping[int, Positions | None]) -> None:
        self.committed = dict(committed)
        self.calls: list[tuple[set[int], set[int]]] = []
        self._owned: set[int] = set()

    def __call__(self, lost: set[int], gained: set[int]) -> Mapping[int, Standing]:
        self.calls.append((lost, gained))
        self._owned = self._owned - lost | gained
        return {partition: Standing(self.committed.get(partition), NEVER_MS) for partition in self._owned}


def source_of(
    client: Client, tasks: Tasks, start_from: StartFrom = "earliest", fuse_share: float = 0.5
) -> KafkaSource:
    batch = SETTINGS.batch.model_copy(update={"fuse_share": fuse_share})
    guard = InputGuard(3, "murmur2", batch)
    consumer = cast("ColumnarConsumer", client)
    return KafkaSource(consumer, Decoder(SETTINGS), SETTINGS.topics, batch, guard, tasks, start_from)


def tp(partition: int, topic: str = TOPICS[0]) -> TopicPartition:
    return TopicPartition(topic, partition)
