"""The embedded broker for real: it answers, keeps its data over a restart, and leaves no process behind."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

from worker.broker.embedded import EmbeddedKafka, free_port

if TYPE_CHECKING:
    from tests.conftest import Broker, TopicFactory

pytestmark = pytest.mark.integration


def produce(bootstrap: str, topic: str, values: list[bytes], timestamp_ms: int | None = None) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    try:
        for value in values:
            producer.send(topic, value, timestamp_ms=timestamp_ms, partition=0).get(timeout=30)
    finally:
        producer.close()


def consume(bootstrap: str, topic: str, count: int) -> list[tuple[int, bytes]]:
    """Read `count` records of partition 0: their time stamps and values."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    try:
        consumer.assign([TopicPartition(topic, 0)])
        found: list[tuple[int, bytes]] = []
        for record in consumer:
            found.append((record.timestamp, record.value))
            if len(found) == count:
                break
        return found
    finally:
        consumer.close()


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def own_broker() -> Iterator[EmbeddedKafka]:
    """A broker for one test to stop and kill; a killed one is let back in after 2 s instead of 9."""
    quick = {"broker.session.timeout.ms": "2000", "broker.heartbeat.interval.ms": "500"}
    with EmbeddedKafka(properties=quick) as broker:
        yield broker


def test_data_outlive_a_restart_and_a_kill_and_nothing_outlives_the_end(own_broker: EmbeddedKafka) -> None:
    with KafkaAdminClient(bootstrap_servers=own_broker.bootstrap) as admin:
        admin.create_topics({"kept": {"num_partitions": 1}}, wait_for_metadata=True)
    address = own_broker.bootstrap
    produce(address, "kept", [b"before"])
    pids = [own_broker.pid]

    own_broker.restart()
    pids.append(own_broker.pid)
    produce(own_broker.bootstrap, "kept", [b"between"])

    own_broker.kill()
    assert own_broker.pid is None
    own_broker.start()
    pids.append(own_broker.pid)

    assert own_broker.bootstrap == address
    assert [value for _, value in consume(address, "kept", 2)] == [b"before", b"between"]

    folder = own_broker.folder
    own_broker.close()
    assert not folder.exists()
    assert not any(runs(pid) for pid in pids if pid is not None)
    assert len({*pids} - {None}) == 3


@pytest.mark.parametrize("timestamp_ms", [1, 1_500_000_000_000, 4_102_444_800_000])
def test_records_of_any_day_are_taken_with_their_own_time_stamp(
    kafka: Broker, topic_factory: TopicFactory, timestamp_ms: int
) -> None:
    topic = topic_factory("any-day")
    produce(kafka.bootstrap, topic, [b"x"], timestamp_ms)
    assert consume(kafka.bootstrap, topic, 1) == [(timestamp_ms, b"x")]


def test_topics_of_the_factory_have_names_partitions_and_settings_of_their_own(
    kafka_admin: KafkaAdminClient, topic_factory: TopicFactory
) -> None:
    names = {topic_factory("twice", 3, {"cleanup.policy": "compact"}) for _ in range(2)}
    assert len(names) == 2
    assert {len(topic["partitions"]) for topic in kafka_admin.describe_topics(list(names))} == {3}


def test_the_verb_kafka_ends_its_broker_with_itself() -> None:
    port = free_port()
    command = [sys.executable, "-m", "worker", "kafka", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert f"127.0.0.1:{port}" in server.stdout.readline()
        server.send_signal(signal.SIGTERM)
        assert server.stdout.read() == "Kafka stopped.\n"
    assert server.returncode == 0
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def test_a_process_that_just_ends_takes_its_broker_with_it() -> None:
    start = "from worker.broker.embedded import EmbeddedKafka; kafka = EmbeddedKafka(); kafka.start(); print(kafka.pid)"
    pid = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, check=True).stdout
    assert not runs(int(pid))
