from __future__ import annotations

import atexit
import logging
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from kafka import KafkaAdminClient, KafkaConsumer
from kafka.structs import TopicPartition

from tests.conftest import RunningBroker
from worker.broker.embedded import EmbeddedKafka
from worker.errors import SettingsError, UnreachableError, WorkerError
from worker.kafka_io import topic_setup
from worker.kafka_io.bulk import BulkProducer
from worker.kafka_io.partitioner import partition_of
from worker.offline.dataset import Dataset
from worker.offline.replay import ReplayOptions, replay
from worker.settings.sections import KafkaSettings, Settings, TopicSettings
from worker.simulation import FIELDS, Traffic, simulate

pytestmark = pytest.mark.integration

PARTITIONS = 3
DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Some 9,000 transactions: more than one batch a partition."""
    return simulate(Traffic(cards=300, merchants=100, days=15, prevalence=0.03, seed=4))


@pytest.fixture
def settings(kafka: EmbeddedKafka | RunningBroker) -> Settings:
    tag = uuid.uuid4().hex[:8]
    return Settings(
        entity_key="00" * 16,
        kafka=KafkaSettings(bootstrap=kafka.bootstrap),
        topics=TopicSettings(**{name: f"{name}-{tag}" for name in TopicSettings.model_fields}),
        transaction=FIELDS,
    )


def read(settings: Settings, topic: str) -> Iterator[Any]:
    """Read every record of a topic with the ordinary client, checksums and all."""
    with KafkaConsumer(bootstrap_servers=settings.kafka.bootstrap, enable_auto_commit=False) as consumer:
        parts = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic))]
        consumer.assign(parts)
        consumer.seek_to_beginning()
        ends = consumer.end_offsets(parts)
        while any(consumer.position(part) < ends[part] for part in parts):
            for records in consumer.poll(timeout_ms=1_000).values():
                yield from records


def test_what_is_replayed_is_there_once_in_order_under_its_card_and_its_own_time(
    settings: Settings, data: Dataset
) -> None:
    topic_setup.create(settings, PARTITIONS)
    seen: list[tuple[int, int]] = []
    totals = replay(settings, data, progress=lambda sent, total: seen.append((sent, total)))

    records = list(read(settings, settings.topics.transactions))
    values = [orjson.loads(record.value) for record in records]
    assert sorted(value["transaction_id"] for value in values) == sorted(data.transaction_id.to_pylist())
    expected = {
        number: (card, time_ms, amount, merchant)
        for number, card, time_ms, amount, merchant in zip(
            data.transaction_id.to_pylist(),
            data.card_id.to_pylist(),
            data.event_time_ms.tolist(),
            data.amount.tolist(),
            data.entities["merchant_id"].to_pylist(),
            strict=True,
        )
    }
    for record, value in zip(records, values, strict=True):
        card, time_ms, amount, merchant = expected[value["transaction_id"]]
        assert (value["card_id"], value["event_time"], value["amount"]) == (card, time_ms, amount)
        assert value["merchant_id"] == merchant
        assert (record.key.decode(), record.timestamp) == (card, time_ms)
        assert record.partition == partition_of(record.key, PARTITIONS, "murmur2")
    for partition in range(PARTITIONS):
        times = [record.timestamp for record in records if record.partition == partition]
        assert times == sorted(times)
    assert (totals.transactions, seen[-1]) == (len(data), (2 * len(data), 2 * len(data)))


def test_every_transaction_gets_its_label_at_its_time(settings: Settings, data: Dataset) -> None:
    topic_setup.create(settings, PARTITIONS)
    totals = replay(settings, data.with_label_delay(2))
    records = list(read(settings, settings.topics.labels))
    label_of = {orjson.loads(record.value)["transaction_id"]: record for record in records}
    assert len(records) == len(label_of) == len(data)
    assert data.is_fraud is not None
    assert (totals.fraud_labels, totals.legit_labels) == (data.is_fraud.sum(), (~data.is_fraud).sum())
    for number, card, time_ms, fraud in zip(
        data.transaction_id.to_pylist(),
        data.card_id.to_pylist(),
        data.event_time_ms.tolist(),
        data.is_fraud.tolist(),
        strict=True,
    ):
        record = label_of[number]
        value = orjson.loads(record.value)
        assert (record.key.decode(), record.timestamp) == (card, time_ms + 2 * DAY_MS)
        assert (value["label"], value["label_time"]) == ("fraud" if fraud else "legit", time_ms + 2 * DAY_MS)


def test_labels_that_lie_ahead_of_today_are_counted_not_sent(settings: Settings, data: Dataset) -> None:
    topic_setup.create(settings, 1)
    today_ms = time.time_ns() // 1_000_000
    recent = replace(data, event_time_ms=data.event_time_ms - data.event_time_ms[-1] + today_ms)
    recent = recent.with_label_delay(5)
    totals = replay(settings, recent)
    known = int((recent.event_time_ms + 5 * DAY_MS <= today_ms).sum())
    assert 0 < known < len(data)
    assert totals.fraud_labels + totals.legit_labels == pytest.approx(known, abs=1)
    assert totals.labels_ahead == pytest.approx(len(data) - known, abs=1)


def test_transactions_of_the_future_are_refused(settings: Settings, data: Dataset) -> None:
    topic_setup.create(settings, 1)
    coming = replace(data, event_time_ms=data.event_time_ms + 100 * 365 * DAY_MS)
    with pytest.raises(SettingsError, match="in the future"):
        replay(settings, coming)
    assert list(read(settings, settings.topics.transactions)) == []


def test_frauds_only_sends_no_legit_label(settings: Settings, data: Dataset) -> None:
    topic_setup.create(settings, 1)
    totals = replay(settings, data, ReplayOptions(frauds_only=True))
    assert totals.legit_labels == 0
    labels = {orjson.loads(record.value)["label"] for record in read(settings, settings.topics.labels)}
    assert labels == {"fraud"}


def test_a_topic_that_would_forget_the_past_is_warned_of(
    settings: Settings, data: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    topic_setup.create(settings, 1, retention_days=7)
    with caplog.at_level(logging.WARNING, "worker.offline.replay"):
        replay(settings, data.take(np.arange(10)))
    assert f"topic {settings.topics.transactions} keeps records for 7.0 days" in caplog.text


def test_a_topic_that_goes_by_the_time_of_arrival_is_not(
    settings: Settings, data: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    topic_setup.create(settings, 1, retention_days=7, stamped_by_broker=True)
    with caplog.at_level(logging.WARNING, "worker.offline.replay"):
        replay(settings, data.take(np.arange(10)))
    assert f"topic {settings.topics.labels} keeps records" not in caplog.text
    assert f"topic {settings.topics.transactions} keeps records" not in caplog.text


def test_without_topics_it_says_how_to_make_them(settings: Settings, data: Dataset) -> None:
    with pytest.raises(UnreachableError, match="topics create"):
        replay(settings, data)


def test_a_batch_that_the_broker_refuses_is_an_error_not_a_loss(
    settings: Settings, kafka_admin: KafkaAdminClient
) -> None:
    name = settings.topics.transactions
    kafka_admin.create_topics(
        {name: {"num_partitions": 1, "configs": {"max.message.bytes": "2000"}}}, wait_for_metadata=True
    )
    rng = np.random.default_rng(0)
    noise = [rng.bytes(1_000) for _ in range(50)]
    with pytest.raises(WorkerError, match="MessageSizeTooLargeError"), BulkProducer(settings) as producer:
        producer.send(name, 0, [b"k"] * 50, noise, [1_700_000_000_000] * 50)


def test_a_producer_that_was_given_up_does_not_hold_up_the_end_of_the_process(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks: list[object] = []
    monkeypatch.setattr(atexit, "register", hooks.append)
    monkeypatch.setattr(atexit, "unregister", hooks.remove)
    with BulkProducer(settings):
        assert hooks == []
