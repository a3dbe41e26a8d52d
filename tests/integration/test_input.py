"""Input and group assignments that are out of the ordinary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.structs import TopicPartition

from tests.support.site import Site
from tests.support.traffic import records_of, small_traffic
from tests.support.waiting import START_S, wait_for

if TYPE_CHECKING:
    from tests.conftest import Broker

pytestmark = pytest.mark.integration

DECIDED = "fraud_worker_decisions_total"


def test_a_worker_on_empty_topics_commits_where_it_begins_and_no_more(kafka: Broker, tmp_path: Path) -> None:
    site = Site(kafka.bootstrap, tmp_path, 3)
    with site.worker() as worker:
        worker.wait_until_ready()
        wait_for(lambda: set(site.offsets().values()) == {(0, 0)}, 10, lambda: f"{site.offsets()}", [worker])
        first = site.commits()
        assert json.loads(worker.get("/readyz")[1]) == {"status": "ready"}
        assert worker.metric(DECIDED) == 0
        assert [(entry.header.partition, entry.rows) for entry in site.decisions()] == [
            (0, []),
            (1, []),
            (2, []),
        ]
        assert worker.stop() == 0
    assert site.commits() == first, "an idle worker writes nothing"


def test_a_worker_that_inherits_an_empty_assignment_joins_again(kafka: Broker, tmp_path: Path) -> None:
    """Killed as the group's leader before it knew the topics: its static member id keeps the empty assignment."""
    site = Site(kafka.bootstrap, tmp_path, 2)
    with site.worker(module="tests.support.empty_leader") as leader:
        wait_for(lambda: "joined with []" in leader.log, START_S, lambda: leader.log, [leader])
        leader.kill()
    with site.worker() as worker:
        worker.wait_until_ready()
        assert worker.stop() == 0


def test_a_worker_goes_on_past_aborted_records_at_the_end_and_starts_again_once_they_are_deleted(
    kafka: Broker, kafka_admin: KafkaAdminClient, tmp_path: Path
) -> None:
    site = Site(kafka.bootstrap, tmp_path, 1)
    records = records_of(small_traffic(days=2, cards=60))
    site.feed(records[:40])
    topic = TopicPartition(site.settings.topics.transactions, 0)
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=f"{site.tag}-input")
    producer.init_transactions()
    with site.worker() as worker:
        site.wait_until_decided(worker)
        producer.begin_transaction()
        for record in records[:20]:
            producer.send(topic.topic, record.value, record.key, timestamp_ms=record.timestamp_ms)
        producer.flush()
        producer.abort_transaction()
        site.wait_until_decided(worker)
        assert worker.stop() == 0
    producer.close(null_logger=False)
    kafka_admin.delete_records({topic: site.offsets()[topic][1]})
    site.feed(records[40:80])
    with site.worker() as worker:
        site.wait_until_decided(worker)
        assert worker.stop() == 0
    site.assert_everything_once()


def test_aborted_transactions_of_a_producer_are_not_decided(kafka: Broker, tmp_path: Path) -> None:
    """Input written in transactions, some of them aborted."""
    site = Site(kafka.bootstrap, tmp_path, 1)
    records = [it for it in records_of(small_traffic(days=1, cards=50)) if it.topic == "transactions"]
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=f"{site.tag}-input")
    producer.init_transactions()
    for n in range(10):
        producer.begin_transaction()
        for record in records[n * 10 : (n + 1) * 10]:
            topic = site.settings.topics.transactions
            producer.send(topic, record.value, record.key, timestamp_ms=record.timestamp_ms)
        producer.flush()
        (producer.abort_transaction if n % 3 == 1 else producer.commit_transaction)()
    producer.close(null_logger=False)
    kept = [record for n in range(10) if n % 3 != 1 for record in records[n * 10 : (n + 1) * 10]]
    with site.worker() as worker:
        wait_for(lambda: worker.metric(DECIDED) >= len(kept), START_S, lambda: worker.log, [worker])
        assert worker.stop() == 0
    decided = [name for entry in site.decisions() for name in entry.transaction_ids]
    assert decided == [json.loads(record.value or b"")["transaction_id"] for record in kept]
    assert site.dead_letters() == []
