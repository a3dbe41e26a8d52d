"""Pausing a partition between two polls: what happens to records that kafka-python has fetched and not yet returned."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from tests.support.records import read_from
from worker.kafka_io.client import consumer_config
from worker.kafka_io.consumer import ColumnarConsumer
from worker.settings.sections import KafkaSettings, Settings

if TYPE_CHECKING:
    from tests.conftest import Broker, TopicFactory

pytestmark = pytest.mark.contract

DEADLINE_S = 60.0
RECORDS = 30
Poll = Callable[[], dict[int, int]]
"""Reads once; returns how many records came, by partition."""


def write(broker: Broker, topic: str, partition: int, count: int) -> None:
    """Records in batches of ten."""
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    for number in range(count):
        producer.send(topic, b"%d" % number, partition=partition)
        if number % 10 == 9:
            producer.flush()
    producer.close()


def read_until(poll: Poll, partition: int, count: int) -> dict[int, int]:
    """Read until so many records of one partition have come; return how many have come of each partition."""
    deadline_s = time.monotonic() + DEADLINE_S
    came: dict[int, int] = {}
    while came.get(partition, 0) < count:
        assert time.monotonic() < deadline_s, f"no more than {came} came"
        for at, records in poll().items():
            came[at] = came.get(at, 0) + records
    return came


def two_full_partitions(broker: Broker, topic_factory: TopicFactory) -> str:
    topic = topic_factory("paused", 2)
    for partition in range(2):
        write(broker, topic, partition, RECORDS)
    return topic


def test_kafka_python_never_reads_on_where_it_was_paused_with_records_in_hand(
    kafka: Broker, topic_factory: TopicFactory
) -> None:
    """Parked records wait for the one slot, which the drained records of the other partition keep."""
    topic = two_full_partitions(kafka, topic_factory)
    consumer = KafkaConsumer(
        bootstrap_servers=kafka.bootstrap, enable_auto_commit=False, max_poll_records=RECORDS // 3
    )
    tps = [TopicPartition(topic, partition) for partition in range(2)]
    consumer.assign(tps)
    consumer.seek_to_beginning(*tps)

    def poll() -> dict[int, int]:
        return {tp.partition: len(records) for tp, records in consumer.poll(timeout_ms=50).items()}

    first: dict[int, int] = {}
    deadline_s = time.monotonic() + DEADLINE_S
    while not first:
        assert time.monotonic() < deadline_s
        first = poll()
    ((paused, came),) = first.items()
    other = 1 - paused
    assert came < RECORDS
    consumer.pause(tps[paused])
    assert read_until(poll, other, RECORDS) == {other: RECORDS}
    consumer.resume(tps[paused])
    for _ in range(3):
        write(kafka, topic, other, 1)
        assert read_until(poll, other, 1) == {other: 1}, (
            "mended: take `max_poll_records` out of worker/kafka_io/client.py"
        )
    assert consumer.position(tps[paused]) == came
    consumer.close()


@pytest.mark.parametrize("columnar", [True, False], ids=["columnar", "by_record"])
def test_a_worker_reads_on_where_it_has_paused(
    kafka: Broker, topic_factory: TopicFactory, columnar: bool
) -> None:
    topic = two_full_partitions(kafka, topic_factory)
    settings = Settings(entity_key="0f" * 16, kafka=KafkaSettings(bootstrap=kafka.bootstrap))
    consumer = ColumnarConsumer(consumer_config(settings, group=False), columnar=columnar)
    tps = [TopicPartition(topic, partition) for partition in range(2)]
    read_from(consumer, tps)

    def poll() -> dict[int, int]:
        return {columns.partition: len(columns) for columns in consumer.poll(50)}

    first: dict[int, int] = {}
    deadline_s = time.monotonic() + DEADLINE_S
    while not first:
        assert time.monotonic() < deadline_s
        first = poll()
    paused, came = next(iter(first.items()))
    assert came == RECORDS, "a poll takes all that was fetched"
    other = 1 - paused
    consumer.pause(tps[paused])
    write(kafka, topic, paused, RECORDS)
    write(kafka, topic, other, RECORDS)
    assert read_until(poll, other, 2 * RECORDS - first.get(other, 0)).keys() == {other}
    consumer.resume(tps[paused])
    assert read_until(poll, paused, RECORDS) == {paused: RECORDS}
    consumer.close()
