"""In which order a topic is read that several clocks have written."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from kafka.structs import TopicPartition

from worker.kafka_io.topic_reader import TopicReader
from worker.settings.sections import Settings

TOPIC = "decisions"
WRITTEN_MS = {0: [105, 101, 120], 1: [103, 110]}
"""By partition; of the first, the second record was written by a host whose clock is behind."""


class Consumer:
    """Gives every record of the topic at the first poll."""

    def __init__(self) -> None:
        self._read = False

    def partitions_for_topic(self, topic: str) -> set[int]:
        assert topic == TOPIC
        return set(WRITTEN_MS)

    def assign(self, partitions: list[TopicPartition]) -> None:
        assert [it.partition for it in partitions] == [*WRITTEN_MS]

    def beginning_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {it: len(WRITTEN_MS[it.partition]) for it in partitions}

    def seek(self, partition: TopicPartition, offset: int) -> None:
        assert (partition.topic, offset) == (TOPIC, 0)

    def position(self, partition: TopicPartition) -> int:
        return len(WRITTEN_MS[partition.partition]) if self._read else 0

    def poll(self, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        assert timeout_ms > 0
        self._read = True
        return {
            TopicPartition(TOPIC, partition): [
                SimpleNamespace(topic=TOPIC, partition=partition, offset=offset, timestamp=time_ms)
                for offset, time_ms in enumerate(times_ms)
            ]
            for partition, times_ms in WRITTEN_MS.items()
        }


def test_records_of_a_partition_are_read_as_they_lie_in_it_whatever_clock_wrote_them() -> None:
    """`skip` goes on from the last entry of a journal: an earlier one would break it for good."""
    reader = TopicReader(Consumer(), TOPIC, Settings.model_construct())
    read = list(reader.since(None))
    for partition, times_ms in WRITTEN_MS.items():
        assert [it.timestamp for it in read if it.partition == partition] == times_ms
    # Of several partitions, the earlier time comes first.
    assert [(it.partition, it.offset) for it in read] == [(1, 0), (0, 0), (0, 1), (1, 1), (0, 2)]
