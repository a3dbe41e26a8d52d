"""Being a member of a group through kafka-python: what the source of a worker relies on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka.errors import FencedInstanceIdError

from worker.broker.embedded import EmbeddedKafka
from worker.kafka_io.consumer import ColumnarConsumer

if TYPE_CHECKING:
    from tests.conftest import Broker, TopicFactory

pytestmark = pytest.mark.contract

DEADLINE_S = 30.0


@contextmanager
def member_of(broker: Broker, group: str, topic: str, **config: Any) -> Iterator[ColumnarConsumer]:
    own = {
        "bootstrap_servers": broker.bootstrap,
        "group_id": group,
        "auto_offset_reset": "earliest",
        "enable_auto_commit": False,
    }
    consumer = ColumnarConsumer(own | config)
    consumer.subscribe([topic])
    try:
        yield consumer
    finally:
        consumer.close()


def poll_until_assigned(consumer: ColumnarConsumer, wanted: set[TopicPartition], timeout_ms: int) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while consumer.assignment() != wanted:
        assert time.monotonic() < deadline_s, f"assigned {consumer.assignment()} instead of {wanted}"
        consumer.poll(timeout_ms)


def test_a_join_that_outlasts_its_poll_is_completed_by_a_later_one(
    kafka: Broker, kafka_admin: KafkaAdminClient, topic_factory: TopicFactory
) -> None:
    """New metadata makes the leader join again; short polls must not leave the join unfinished."""
    topic = topic_factory("grows", 1)
    with member_of(kafka, topic, topic, metadata_max_age_ms=200) as consumer:
        poll_until_assigned(consumer, {TopicPartition(topic, 0)}, timeout_ms=100)
        kafka_admin.create_partitions({topic: 3})
        poll_until_assigned(consumer, {TopicPartition(topic, p) for p in range(3)}, timeout_ms=0)


def poll_for(time_s: float, *consumers: ColumnarConsumer) -> None:
    deadline_s = time.monotonic() + time_s
    while time.monotonic() < deadline_s:
        for consumer in consumers:
            consumer.poll(50)


def test_an_idle_member_whose_static_id_was_taken_notices_it(
    kafka: Broker, topic_factory: TopicFactory
) -> None:
    """The client itself stops its heartbeats and polls on for ever, without an error."""
    topic = topic_factory("taken", 1)
    static = {"group_instance_id": "w1", "session_timeout_ms": 10_000, "heartbeat_interval_ms": 3_000}
    with member_of(kafka, topic, topic, **static) as older:
        poll_until_assigned(older, {TopicPartition(topic, 0)}, timeout_ms=100)
        with member_of(kafka, topic, topic, **static) as newer:
            poll_until_assigned(newer, {TopicPartition(topic, 0)}, timeout_ms=100)
            with pytest.raises(FencedInstanceIdError):
                poll_for(10.0, newer, older)


def poll_until(consumer: ColumnarConsumer, *, is_cut_off: bool) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while consumer.is_cut_off != is_cut_off:
        assert time.monotonic() < deadline_s, f"is_cut_off stays {consumer.is_cut_off}"
        consumer.poll(50)


def test_a_member_notices_that_no_broker_answers_and_that_one_does_again() -> None:
    """The client itself polls on for ever, without an error, and its newest offsets stay what they were."""
    with EmbeddedKafka(properties={"group.min.session.timeout.ms": "1000"}) as broker:
        with KafkaAdminClient(bootstrap_servers=broker.bootstrap) as admin:
            admin.create_topics({"quiet": {"num_partitions": 1}}, wait_for_metadata=True)
        quick = {"group_instance_id": "w1", "session_timeout_ms": 2_000, "heartbeat_interval_ms": 500}
        with member_of(broker, "g", "quiet", **quick) as consumer:
            assert not consumer.is_cut_off, "it has not joined yet"
            poll_until_assigned(consumer, {TopicPartition("quiet", 0)}, timeout_ms=100)
            poll_for(3.0, consumer)
            assert not consumer.is_cut_off
            broker.stop()
            poll_until(consumer, is_cut_off=True)
            broker.start()
            poll_until(consumer, is_cut_off=False)
