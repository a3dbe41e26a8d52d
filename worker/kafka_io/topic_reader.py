"""Reads a topic for a person: its newest records, those since a moment, all of them, and those that follow."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from kafka import KafkaConsumer
from kafka.structs import TopicPartition

from worker.errors import UnreachableError
from worker.kafka_io.client import consumer_config, kafka_errors_explained
from worker.kafka_io.open_transactions import STALLED_S
from worker.kafka_io.patience import Patience
from worker.settings.sections import Settings

_POLL_MS: Final = 200
_STEP: Final = 4
PartitionOffsets = dict[TopicPartition, int]


class TopicReader:
    """The committed records of one topic, read without a group: no position is committed.

    Parameters
    ----------
    consumer
        Of kafka-python, without a group; not used again after its first error.
    topic
        Read in the partitions that it has now.
    settings
        Name the broker in errors.

    Raises
    ------
    UnreachableError
        There is no such topic.
    """

    def __init__(self, consumer: KafkaConsumer, topic: str, settings: Settings) -> None:
        self._consumer = consumer
        self._topic = topic
        numbers = consumer.partitions_for_topic(topic)
        if not numbers:
            raise UnreachableError(
                f"Kafka at kafka.bootstrap = {settings.kafka.bootstrap!r} lacks the topic {topic}: "
                "run `fraud-worker topics create`, or correct the names in [topics]"
            )
        self._partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
        consumer.assign(self._partitions)
        self._begin: PartitionOffsets = consumer.beginning_offsets(self._partitions)
        self.end: PartitionOffsets = consumer.end_offsets(self._partitions)
        """Offsets after the newest records when the reader was constructed."""

    def since(self, time_ms: int | None) -> Iterator[Any]:
        """Yield the records up to `end` whose timestamps are not before a moment; all of them for None."""
        start = dict(self._begin)
        if time_ms is not None:
            found = self._consumer.offsets_for_times(dict.fromkeys(self._partitions, max(time_ms, 0)))
            start = {tp: self.end[tp] if at is None else at.offset for tp, at in found.items()}
        # The broker may have found a transaction's marker, which carries the time at which it was written.
        yield from (it for it in self._between(start) if time_ms is None or it.timestamp >= time_ms)

    def newest(self, count: int) -> list[Any]:
        """Return the last `count` records before `end`, by timestamp.

        Transactions leave gaps in the offsets, so the stretch that is read grows until it holds enough.
        """
        back = count
        while True:
            start = {tp: max(self._begin[tp], self.end[tp] - back) for tp in self._partitions}
            found: dict[int, deque[Any]] = {tp.partition: deque(maxlen=count) for tp in self._partitions}
            for record in self._between(start):
                found[record.partition].append(record)
            if all(start[tp] == self._begin[tp] or len(found[tp.partition]) == count for tp in start):
                break
            back *= _STEP
        records = [record for of_one in found.values() for record in of_one]
        return sorted(records, key=lambda it: int(it.timestamp))[-count:]

    def following(self) -> Iterator[Any | None]:
        """Yield the records written after `end`, for ever; None after every poll that returns nothing."""
        self._seek(self.end)
        while True:
            polled = self._consumer.poll(timeout_ms=_POLL_MS)
            yield from _in_order(polled)
            if not polled:
                yield None

    def _between(self, start: PartitionOffsets) -> Iterator[Any]:
        """Yield the records from `start` up to `end`; positions decide, because a gap holds no records."""
        self._seek(start)
        # To the last stable offset: behind it no transaction is open.
        patience = Patience(STALLED_S, why="see that the brokers at kafka.bootstrap answer, and try again")
        reached = start
        while any(reached[tp] < self.end[tp] for tp in self._partitions):
            patience.wait(f"{self._topic}: nothing could be read")
            polled = self._consumer.poll(timeout_ms=_POLL_MS)
            yield from (
                it for it in _in_order(polled) if it.offset < self.end[TopicPartition(it.topic, it.partition)]
            )
            before, reached = reached, {tp: self._consumer.position(tp) for tp in self._partitions}
            if reached != before:
                patience.progressed()

    def _seek(self, offsets: PartitionOffsets) -> None:
        for tp, offset in offsets.items():
            self._consumer.seek(tp, offset)


@contextmanager
def open_topic(settings: Settings, topic: str) -> Iterator[TopicReader]:
    """Open a topic for reading; raise kafka-python's errors as ours."""
    with kafka_errors_explained(settings):
        consumer = KafkaConsumer(**consumer_config(settings, group=False))
        try:
            yield TopicReader(consumer, topic, settings)
        finally:
            consumer.close(autocommit=False)


def _in_order(polled: dict[TopicPartition, list[Any]]) -> list[Any]:
    """Put the records of several partitions in order of time, those of each one as they lie in it.

    Clocks differ between producers and are set back: a later record may have an earlier time.
    """
    return list(heapq.merge(*polled.values(), key=lambda it: int(it.timestamp)))
